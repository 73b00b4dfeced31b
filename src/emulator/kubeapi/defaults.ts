import type { Boot } from "#emulator/boot.ts";
import { type KubeResource, storeKey } from "./catalog.ts";
import type { KubeObject } from "./objects.ts";

/** What the API server fills in. */
export function defaults(resource: KubeResource, object: KubeObject, boot: Boot): KubeObject {
  const spec = (object.spec ?? {}) as Record<string, unknown>;
  switch (storeKey(resource)) {
    case "/namespaces":
      return {
        ...object,
        metadata: {
          ...object.metadata,
          labels: { ...object.metadata.labels, "kubernetes.io/metadata.name": object.metadata.name },
        },
        spec: { finalizers: ["kubernetes"] },
        status: { phase: "Active" },
      };
    case "/services": {
      const low = 1 + (Math.floor(Math.random() * 65_000) % 65_000);
      const clusterIP = spec.clusterIP ?? `10.${96 + (low % 15)}.${(low >> 8) & 255}.${1 + (low % 254)}`;
      return {
        ...object,
        spec: { type: "ClusterIP", sessionAffinity: "None", ...spec, clusterIP },
        status: { loadBalancer: {} },
      };
    }
    case "/pods":
      return {
        ...object,
        spec: { restartPolicy: "Always", serviceAccountName: "default", ...spec },
        status: { phase: "Pending", ...(object.status as object | undefined) },
      };
    case "/secrets": {
      const { stringData, ...rest } = object as KubeObject & { stringData?: Record<string, string> };
      const encoded = Object.fromEntries(
        Object.entries(stringData ?? {}).map(([key, value]) => [key, Buffer.from(String(value)).toString("base64")]),
      );
      return { type: "Opaque", ...rest, data: { ...(object.data as object | undefined), ...encoded } } as KubeObject;
    }
    case "apps/deployments":
    case "apps/replicasets":
    case "apps/statefulsets":
      return { ...object, spec: { replicas: 1, ...spec } };
    case "apiextensions.k8s.io/customresourcedefinitions": {
      const condition = (type: string) => ({
        type,
        status: "True",
        reason: "InitialNamesAccepted",
        lastTransitionTime: new Date(boot.chassis.clock.now()).toISOString(),
      });
      return {
        ...object,
        status: {
          acceptedNames: spec.names,
          conditions: [condition("NamesAccepted"), condition("Established")],
          storedVersions: [],
        },
      };
    }
    default:
      return object;
  }
}
