import { SessionSpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A session, token or one-time code. Id: SHA-256 of it, hex. */
export const SessionKind = defineKind({
  type: "Sessions.ichor.dev",
  namespace: "default",
  spec: SessionSpecSchema,
  writer: "plane",
  secret: true,
});
