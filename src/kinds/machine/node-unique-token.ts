import { NodeUniqueTokenSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The unique token of an admitted machine. Id: machine UUID. */
export const NodeUniqueTokenKind = defineKind({
  type: "NodeUniqueTokens.omni.sidero.dev",
  namespace: "default",
  spec: NodeUniqueTokenSpecSchema,
  writer: "plane",
  secret: true,
});
