import { LinkStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The peer that the link engine carries for a machine or a pending machine. Id: of that link. */
export const LinkStatusKind = defineKind({
  type: "LinkStatuses.omni.sidero.dev",
  namespace: "ephemeral",
  spec: LinkStatusSpecSchema,
  writer: "plane",
});
