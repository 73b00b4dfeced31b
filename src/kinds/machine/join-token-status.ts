import { JoinTokenStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Whether a join token is active, and who used it. Id: the token. */
export const JoinTokenStatusKind = defineKind({
  type: "JoinTokenStatuses.omni.sidero.dev",
  namespace: "default",
  spec: JoinTokenStatusSpecSchema,
  writer: "plane",
  read: "Operator",
  sealed: true,
  secretId: true,
});
