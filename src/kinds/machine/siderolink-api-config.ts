import { SiderolinkAPIConfigSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Where machines reach the plane. Id: `siderolink-config`. */
export const SiderolinkAPIConfigKind = defineKind({
  type: "SiderolinkAPIConfigs.omni.sidero.dev",
  namespace: "default",
  spec: SiderolinkAPIConfigSpecSchema,
  writer: "plane",
});
