import { MachineLabelsSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Labels that users put on a machine. Id: machine UUID. */
export const MachineLabelsKind = defineKind({
  type: "MachineLabels.omni.sidero.dev",
  namespace: "default",
  spec: MachineLabelsSpecSchema,
  writer: "users",
});
