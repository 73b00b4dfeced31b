import { MachineSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** An admitted machine. Id: machine UUID. */
export const MachineKind = defineKind({
  type: "Machines.omni.sidero.dev",
  namespace: "default",
  spec: MachineSpecSchema,
  writer: "plane",
  aliases: ["machine"],
});
