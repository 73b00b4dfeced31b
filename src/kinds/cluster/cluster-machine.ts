import { ClusterMachineSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A machine that belongs to a cluster until it was reset. Id: machine UUID. */
export const ClusterMachineKind = defineKind({
  type: "ClusterMachines.omni.sidero.dev",
  namespace: "default",
  spec: ClusterMachineSpecSchema,
  writer: "plane",
});
