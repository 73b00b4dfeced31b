import { ControllerStatusSpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** How a controller stands. Id: its name. */
export const ControllerStatusKind = defineKind({
  type: "ControllerStatuses.ichor.dev",
  namespace: "ephemeral",
  spec: ControllerStatusSpecSchema,
  writer: "plane",
});
