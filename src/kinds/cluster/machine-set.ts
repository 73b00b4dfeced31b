import { MachineSetSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Machines of one role in a cluster. Id: `<cluster>-control-planes` or `<cluster>-<name>`. */
export const MachineSetKind = defineKind({
  type: "MachineSets.omni.sidero.dev",
  namespace: "default",
  spec: MachineSetSpecSchema,
  writer: "users",
  aliases: ["machineset", "ms"],
  parent: { label: "omni.sidero.dev/cluster", type: "Clusters.omni.sidero.dev" },
});
