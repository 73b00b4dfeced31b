import { JoinTokenSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A token that lets machines join. Id: the token itself, therefore treat ids as secrets too. */
export const JoinTokenKind = defineKind({
  type: "JoinTokens.omni.sidero.dev",
  namespace: "default",
  spec: JoinTokenSpecSchema,
  writer: "users",
  read: "Operator",
  write: "Admin",
  sealed: true,
  secretId: true,
});
