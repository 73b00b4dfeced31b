import { MachineSetNodeSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Puts a machine into a machine set. Id: machine UUID. */
export const MachineSetNodeKind = defineKind({
  type: "MachineSetNodes.omni.sidero.dev",
  namespace: "default",
  spec: MachineSetNodeSpecSchema,
  writer: "users",
  aliases: ["machinesetnode", "msn"],
  parent: { label: "omni.sidero.dev/machine-set", type: "MachineSets.omni.sidero.dev" },
});
