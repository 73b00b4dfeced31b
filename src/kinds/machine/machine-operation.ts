import { MachineOperationSpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** An installation or reset under way. Id: machine UUID. */
export const MachineOperationKind = defineKind({
  type: "MachineOperations.ichor.dev",
  namespace: "default",
  spec: MachineOperationSpecSchema,
  writer: "plane",
});
