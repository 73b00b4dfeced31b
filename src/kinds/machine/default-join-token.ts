import { DefaultJoinTokenSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Names the token that join pages show. Id: `default`. */
export const DefaultJoinTokenKind = defineKind({
  type: "DefaultJoinTokens.omni.sidero.dev",
  namespace: "default",
  spec: DefaultJoinTokenSpecSchema,
  writer: "users",
  read: "Operator",
  write: "Admin",
  sealed: true,
});
