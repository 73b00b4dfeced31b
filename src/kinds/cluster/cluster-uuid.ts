import { ClusterUUIDSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Tells clusters of one name over time apart. Id: cluster name. */
export const ClusterUUIDKind = defineKind({
  type: "ClusterUUIDs.omni.sidero.dev",
  namespace: "default",
  spec: ClusterUUIDSchema,
  writer: "plane",
});
