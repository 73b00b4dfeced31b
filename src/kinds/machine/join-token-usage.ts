import { JoinTokenUsageSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Which join token a machine came with. Id: machine UUID. */
export const JoinTokenUsageKind = defineKind({
  type: "JoinTokenUsages.omni.sidero.dev",
  namespace: "default",
  spec: JoinTokenUsageSpecSchema,
  writer: "plane",
  read: "Operator",
  sealed: true,
});
