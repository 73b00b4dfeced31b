import { ClusterStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Phase and counts of a cluster. Id: cluster name. */
export const ClusterStatusKind = defineKind({
  type: "ClusterStatuses.omni.sidero.dev",
  namespace: "default",
  spec: ClusterStatusSpecSchema,
  writer: "plane",
});
