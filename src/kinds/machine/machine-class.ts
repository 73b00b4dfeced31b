import { MachineClassSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Selects machines by labels. Id: its name. */
export const MachineClassKind = defineKind({
  type: "MachineClasses.omni.sidero.dev",
  namespace: "default",
  spec: MachineClassSpecSchema,
  writer: "users",
});
