import { MachineConfigGenOptionsSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Install disk and image chosen for a machine. Id: machine UUID. */
export const MachineConfigGenOptionsKind = defineKind({
  type: "MachineConfigGenOptions.omni.sidero.dev",
  namespace: "default",
  spec: MachineConfigGenOptionsSpecSchema,
  writer: "plane",
});
