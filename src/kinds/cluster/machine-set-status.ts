import { MachineSetStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Phase and counts of a machine set. Id: as the machine set's. */
export const MachineSetStatusKind = defineKind({
  type: "MachineSetStatuses.omni.sidero.dev",
  namespace: "default",
  spec: MachineSetStatusSpecSchema,
  writer: "plane",
});
