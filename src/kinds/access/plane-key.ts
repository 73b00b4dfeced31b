import { PlaneKeySpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A key of the plane itself. Id: its purpose. */
export const PlaneKeyKind = defineKind({
  type: "PlaneKeys.ichor.dev",
  namespace: "default",
  spec: PlaneKeySpecSchema,
  writer: "plane",
  secret: true,
});
