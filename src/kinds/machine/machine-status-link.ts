import { MachineStatusLinkSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Machine status with the counters of its link. Id: machine UUID. */
export const MachineStatusLinkKind = defineKind({
  type: "MachineStatusLinks.omni.sidero.dev",
  namespace: "metrics",
  spec: MachineStatusLinkSpecSchema,
  writer: "plane",
});
