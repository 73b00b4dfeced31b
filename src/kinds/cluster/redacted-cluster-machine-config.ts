import { RedactedClusterMachineConfigSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The generated configuration without its secrets. Id: machine UUID. */
export const RedactedClusterMachineConfigKind = defineKind({
  type: "RedactedClusterMachineConfigs.omni.sidero.dev",
  namespace: "default",
  spec: RedactedClusterMachineConfigSpecSchema,
  writer: "plane",
  read: "Operator",
});
