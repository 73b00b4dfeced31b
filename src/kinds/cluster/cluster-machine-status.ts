import { ClusterMachineStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** How a machine stands in its cluster. Id: machine UUID. */
export const ClusterMachineStatusKind = defineKind({
  type: "ClusterMachineStatuses.omni.sidero.dev",
  namespace: "default",
  spec: ClusterMachineStatusSpecSchema,
  writer: "plane",
});
