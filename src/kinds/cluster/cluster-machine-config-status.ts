import { ClusterMachineConfigStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Which configuration a machine has accepted, or why it refused. Id: machine UUID. */
export const ClusterMachineConfigStatusKind = defineKind({
  type: "ClusterMachineConfigStatuses.omni.sidero.dev",
  namespace: "default",
  spec: ClusterMachineConfigStatusSpecSchema,
  writer: "plane",
});
