import { MachineStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** What is known of a machine: hardware, network, versions, security state. Id: machine UUID. */
export const MachineStatusKind = defineKind({
  type: "MachineStatuses.omni.sidero.dev",
  namespace: "default",
  spec: MachineStatusSpecSchema,
  writer: "plane",
});
