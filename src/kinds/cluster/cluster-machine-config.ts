import { ClusterMachineConfigSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The generated configuration of a machine. Id: machine UUID. */
export const ClusterMachineConfigKind = defineKind({
  type: "ClusterMachineConfigs.omni.sidero.dev",
  namespace: "default",
  spec: ClusterMachineConfigSpecSchema,
  writer: "plane",
  secret: true,
});
