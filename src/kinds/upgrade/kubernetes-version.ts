import { KubernetesVersionSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A Kubernetes version that may be used. Id: the version without `v`. */
export const KubernetesVersionKind = defineKind({
  type: "KubernetesVersions.omni.sidero.dev",
  namespace: "default",
  spec: KubernetesVersionSpecSchema,
  writer: "plane",
});
