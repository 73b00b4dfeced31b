import { ControlPlaneStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Conditions of the control plane. Id: of its machine set. */
export const ControlPlaneStatusKind = defineKind({
  type: "ControlPlaneStatuses.omni.sidero.dev",
  namespace: "default",
  spec: ControlPlaneStatusSpecSchema,
  writer: "plane",
});
