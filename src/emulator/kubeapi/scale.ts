import type { KubeObject } from "./objects.ts";

/** The `scale` subresource of an object that has replicas (autoscaling/v1). */
export function scaleOf(object: KubeObject): KubeObject {
  const spec = object.spec as { replicas?: number; selector?: { matchLabels?: Record<string, string> } } | undefined;
  const status = object.status as { replicas?: number } | undefined;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = Object.entries(spec?.selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  return {
    apiVersion: "autoscaling/v1",
    kind: "Scale",
    metadata: {
      name,
      ...(namespace ? { namespace } : {}),
      ...(uid ? { uid } : {}),
      ...(resourceVersion ? { resourceVersion } : {}),
      ...(creationTimestamp ? { creationTimestamp } : {}),
    },
    spec: { replicas: spec?.replicas ?? 0 },
    status: { replicas: status?.replicas ?? 0, selector: selector.join(",") },
  };
}

/** The object with the replicas of a Scale. */
export function withScale(object: KubeObject, scale: KubeObject): KubeObject {
  const { replicas } = (scale.spec ?? {}) as { replicas?: unknown };
  return {
    ...object,
    metadata: {
      ...object.metadata,
      ...(scale.metadata?.resourceVersion ? { resourceVersion: scale.metadata.resourceVersion } : {}),
    },
    spec: { ...(object.spec as object), replicas: Math.max(0, Math.floor(Number(replicas) || 0)) },
  };
}
