import type { Deps } from "#controllers/deps.ts";
import type { Context, Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import type { ClusterMachineSpec } from "#gen/specs/specs_pb.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineConfigKind } from "#kinds/cluster/cluster-machine-config.ts";
import { ClusterMachineConfigPatchesKind } from "#kinds/cluster/cluster-machine-config-patches.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { LoadBalancerConfigKind } from "#kinds/cluster/load-balancer-config.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { RedactedClusterMachineConfigKind } from "#kinds/cluster/redacted-cluster-machine-config.ts";
import { label } from "#kinds/labels.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenUsageKind } from "#kinds/machine/join-token-usage.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineConfigGenOptionsKind } from "#kinds/machine/machine-config-gen-options.ts";
import { ClusterConfigVersionKind } from "#kinds/upgrade/cluster-config-version.ts";
import { IchorError } from "#lib/errors.ts";
import { labelled } from "#resource/query.ts";
import type { Resource } from "#resource/resource.ts";
import { contractOf } from "#talos/compatibility.ts";
import { type ConfigDocument, isMain, printConfig } from "#talos/document.ts";
import { generateConfig } from "#talos/generate.ts";
import { installImage } from "#talos/install.ts";
import { joinDocuments } from "#talos/kernelargs.ts";
import { applyPatches } from "#talos/patch.ts";
import { redact } from "#talos/redact.ts";
import { decodeSecrets } from "#talos/secrets.ts";
import { patchIds } from "./cluster-machine-config-patches.ts";
import { isControlPlane, machinesOf } from "./of-cluster.ts";

type Machine = Resource<ClusterMachineSpec>;

/** Generates the configuration of each machine (protocols.md 15.6), and its copy without secrets. */
export function clusterMachineConfigControllers(deps: Deps): Controller[] {
  return [
    transform({
      name: "cluster-machine-config",
      purpose: "Generates the configuration of each machine: contract, secrets, patches, join documents.",
      input: ClusterMachineKind,
      output: ClusterMachineConfigKind,
      inputs: [
        { kind: ClusterMachineConfigPatchesKind },
        { kind: MachineConfigGenOptionsKind },
        { kind: ClusterSecretsKind, wakes: machinesOf },
        { kind: ClusterConfigVersionKind, wakes: machinesOf },
        { kind: LoadBalancerConfigKind, wakes: machinesOf },
        // Whether a cluster is a single machine depends on who else is wanted in it.
        {
          kind: MachineSetNodeKind,
          wakes: ({ labels }, reader) => machinesOf({ id: labels[label.cluster] ?? "" }, reader),
        },
        { kind: LinkKind },
        { kind: JoinTokenUsageKind },
        { kind: DefaultJoinTokenKind, wakes: () => [] },
      ],
      concurrency: 16,
      async transform(context, machine) {
        const generated = await generate(deps, context, machine);
        if (generated === undefined) return false;
        return ({ spec, labels }) => {
          Object.assign(labels, machine.metadata.labels);
          if (typeof generated === "string") {
            spec.data = Buffer.from(generated);
            spec.generationError = "";
          } else spec.generationError = generated.message;
        };
      },
    }),
    transform({
      name: "redacted-cluster-machine-config",
      purpose: "Shows the configuration of each machine without its secrets.",
      input: ClusterMachineConfigKind,
      output: RedactedClusterMachineConfigKind,
      concurrency: 16,
      async transform(_context, { metadata, spec }) {
        const text = redact(Buffer.from(spec.data).toString());
        return (draft) => {
          Object.assign(draft.labels, metadata.labels);
          draft.spec.data = text;
        };
      },
    }),
  ];
}

/** The text; an error when patches or versions do not allow one; undefined while something is not known yet. */
async function generate(
  { settings }: Deps,
  context: Context,
  { metadata, spec }: Machine,
): Promise<string | IchorError | undefined> {
  const name = metadata.labels[label.cluster] ?? "";
  const [secrets, version, balancer, options, patches, link] = await Promise.all([
    context.get(ClusterSecretsKind, name),
    context.get(ClusterConfigVersionKind, name),
    context.get(LoadBalancerConfigKind, name),
    context.get(MachineConfigGenOptionsKind, metadata.id),
    context.get(ClusterMachineConfigPatchesKind, metadata.id),
    context.get(LinkKind, metadata.id),
  ]);
  if (!secrets || !version || !balancer?.spec.siderolinkEndpoint || !options?.spec.installImage || !patches || !link)
    return undefined;
  const { installDisk } = options.spec;
  if (!installDisk) {
    return new IchorError("failed_precondition", "the machine has no disk to install on: writable and over 5 GB");
  }
  const image = options.spec.installImage;
  const token =
    (await context.get(JoinTokenUsageKind, metadata.id))?.spec.tokenId ??
    (await context.get(DefaultJoinTokenKind, "default"))?.spec.tokenId ??
    "";
  const controlPlane = isControlPlane(metadata);
  const others = await context.list(MachineSetNodeKind, labelled({ [label.cluster]: name }));
  try {
    const documents = generateConfig({
      contract: contractOf(version.spec.version),
      clusterName: name,
      endpoint: balancer.spec.siderolinkEndpoint,
      secrets: decodeSecrets(secrets.spec.data),
      machineType: controlPlane ? "controlplane" : "worker",
      kubernetesVersion: spec.kubernetesVersion,
      installDisk,
      installImage: installImage({
        factory: settings.imageFactory,
        schematic: image.schematicInvalid ? "" : image.schematicId,
        talosVersion: image.talosVersion,
        platform: image.platform,
        secureBoot: image.securityState?.secureBoot ?? false,
      }),
      kubernetesRegistry: settings.kubernetesRegistry,
      schedulable: controlPlane && others.filter((node) => node.metadata.phase === "running").length <= 1,
    }) as ConfigDocument[];
    const ids = JSON.parse(patches.metadata.annotations[patchIds] ?? "[]") as string[];
    const patched = applyPatches(
      documents,
      patches.spec.patches.map((text, index) => ({ id: ids[index] ?? String(index), text })),
    );
    const tunnel = link.spec.virtualAddrport !== "";
    const join = joinDocuments(settings.joinTarget(token, tunnel)) as ConfigDocument[];
    return printConfig([...patched.map((document) => fix(document, installDisk)), ...join]);
  } catch (error) {
    if (error instanceof IchorError && error.code !== "internal") return error;
    throw error;
  }
}

/** What no patch may change: the disk (13.4), and that pods never get `os:admin`. */
function fix(document: ConfigDocument, disk: string): ConfigDocument {
  if (!isMain(document)) return document;
  const machine = (document.machine ?? {}) as Record<string, unknown>;
  const features = machine.features as Record<string, unknown> | undefined;
  const access = features?.kubernetesTalosAPIAccess as { allowedRoles?: unknown } | undefined;
  const roles = access?.allowedRoles;
  return {
    ...document,
    machine: {
      ...machine,
      ...(machine.install ? { install: { ...(machine.install as object), disk } } : {}),
      ...(Array.isArray(roles)
        ? {
            features: {
              ...features,
              kubernetesTalosAPIAccess: { ...access, allowedRoles: roles.filter((role) => role !== "os:admin") },
            },
          }
        : {}),
    },
  };
}
