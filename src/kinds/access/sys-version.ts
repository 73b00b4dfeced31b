import { SysVersionSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Version of the plane and of its client API. Id: `current`. */
export const SysVersionKind = defineKind({
  type: "SysVersions.system.sidero.dev",
  namespace: "ephemeral",
  spec: SysVersionSpecSchema,
  writer: "plane",
});
