import { MachineStatusSnapshotSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The last stage that a machine told by event. Id: machine UUID. */
export const MachineStatusSnapshotKind = defineKind({
  type: "MachineStatusSnapshots.omni.sidero.dev",
  namespace: "default",
  spec: MachineStatusSnapshotSpecSchema,
  writer: "plane",
});
