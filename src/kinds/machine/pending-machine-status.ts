import { PendingMachineStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** What was done to give a pending machine its unique token. Id: as the pending machine's. */
export const PendingMachineStatusKind = defineKind({
  type: "PendingMachineStatuses.omni.sidero.dev",
  namespace: "ephemeral",
  spec: PendingMachineStatusSpecSchema,
  writer: "plane",
  secret: true,
});
