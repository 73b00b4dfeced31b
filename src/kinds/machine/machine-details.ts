import { MachineDetailsSpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** What of a machine has no place in MachineStatuses: serial number, system disk, time, stage. Id: machine UUID. */
export const MachineDetailsKind = defineKind({
  type: "MachineDetails.ichor.dev",
  namespace: "default",
  spec: MachineDetailsSpecSchema,
  writer: "plane",
});
