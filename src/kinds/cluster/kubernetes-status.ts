import { KubernetesStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Nodes and static pods with their versions. Id: cluster name. */
export const KubernetesStatusKind = defineKind({
  type: "KubernetesStatuses.omni.sidero.dev",
  namespace: "default",
  spec: KubernetesStatusSpecSchema,
  writer: "plane",
});
