import { z } from "zod";

/** Shapes of the documents of a template (protocols.md 14.1 to 14.6). Strict: an unknown key is an error. */

const uuid = z
  .string()
  .regex(
    /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
    "is not a machine UUID such as 430d882a-51a8-48b3-ab00-d4b5b0b5b0b5",
  );
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]*$/, "may have only letters, digits, - and _");
const userKey = z
  .string()
  .refine((key) => !key.startsWith("omni.sidero.dev/"), "keys under omni.sidero.dev/ are the plane's own");
const userMap = z.record(userKey, z.string());
const semver = /^v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/;
/** Go's form of a duration, `1h30m`. */
const duration = z.union([
  z.string().regex(/^(0|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)$/, "is not a duration such as 24h"),
  z.literal(0),
]);

const descriptors = { labels: userMap.optional(), annotations: userMap.optional() };

const patch = z.strictObject({
  idOverride: z.string().min(1).optional(),
  name: z.string().min(1).optional(),
  file: z.string().min(1).optional(),
  inline: z
    .union([z.string(), z.record(z.string(), z.unknown()), z.array(z.record(z.string(), z.unknown()))])
    .optional(),
  ...descriptors,
});

const manifest = z.strictObject({
  name: z.string().min(1).optional(),
  mode: z.enum(["full", "one-time"]),
  file: z.string().min(1).optional(),
  inline: z
    .union([z.string(), z.record(z.string(), z.unknown()), z.array(z.record(z.string(), z.unknown()))])
    .optional(),
  ...descriptors,
});

const layers = {
  patches: z.array(patch).optional(),
  systemExtensions: z.array(z.string().min(1)).optional(),
  kernelArgs: z.array(z.string().min(1)).optional(),
};

const strategy = z.strictObject({
  type: z.enum(["Unset", "Rolling"]).optional(),
  rolling: z.strictObject({ maxParallelism: z.int().min(1).optional() }).optional(),
});

const machineClass = z.strictObject({
  name: z.string().min(1),
  size: z.union([z.int().min(0), z.enum(["unlimited", "Unlimited", "infinity", "∞"])]),
});

const clusterDocument = z.strictObject({
  kind: z.literal("Cluster"),
  name,
  ...descriptors,
  kubernetes: z.strictObject({
    version: z.string().regex(semver, "is not a version such as v1.36.1"),
    manifests: z.array(manifest).optional(),
  }),
  talos: z.strictObject({
    version: z.string().regex(semver, "is not a version such as v1.13.0").startsWith("v", "must start with v"),
  }),
  features: z
    .strictObject({
      diskEncryption: z.boolean().optional(),
      enableWorkloadProxy: z.boolean().optional(),
      useEmbeddedDiscoveryService: z.boolean().optional(),
      disablePublicDiscoveryService: z.boolean().optional(),
      enableNodeAuditSkip: z.boolean().optional(),
      backupConfiguration: z.strictObject({ interval: duration }).optional(),
    })
    .optional(),
  ...layers,
});

const controlPlaneDocument = z.strictObject({
  kind: z.literal("ControlPlane"),
  ...descriptors,
  machines: z.array(uuid).optional(),
  machineClass: machineClass.optional(),
  bootstrapSpec: z.strictObject({ clusterUUID: z.string().min(1), snapshot: z.string().min(1) }).optional(),
  upgradeStrategy: strategy.optional(),
  ...layers,
});

const workersDocument = z.strictObject({
  kind: z.literal("Workers"),
  name: name.optional(),
  ...descriptors,
  machines: z.array(uuid).optional(),
  machineClass: machineClass.optional(),
  updateStrategy: strategy.optional(),
  deleteStrategy: strategy.optional(),
  upgradeStrategy: strategy.optional(),
  ...layers,
});

const machineDocument = z.strictObject({
  kind: z.literal("Machine"),
  name: uuid,
  ...descriptors,
  locked: z.boolean().optional(),
  install: z
    .strictObject({
      disk: z.string().startsWith("/dev/", "is not a device path such as /dev/sda").optional(),
      diskSelector: z.string().optional(),
    })
    .optional(),
  ...layers,
});

/** The schema of each kind of document. */
export const documentSchemas = {
  Cluster: clusterDocument,
  ControlPlane: controlPlaneDocument,
  Workers: workersDocument,
  Machine: machineDocument,
} as const;

export type ClusterDocument = z.infer<typeof clusterDocument>;
export type ControlPlaneDocument = z.infer<typeof controlPlaneDocument>;
export type WorkersDocument = z.infer<typeof workersDocument>;
export type MachineDocument = z.infer<typeof machineDocument>;
/** A patch as a template states it: `file` or `inline`. */
export type PatchEntry = z.infer<typeof patch>;
/** Kubernetes manifests as a template states them: `file` or `inline`. */
export type ManifestEntry = z.infer<typeof manifest>;
