import { ConfigPatchSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A patch of machine configuration; its labels say for whom. Id: `<weight>-<level>-<name>`. */
export const ConfigPatchKind = defineKind({
  type: "ConfigPatches.omni.sidero.dev",
  namespace: "default",
  spec: ConfigPatchSpecSchema,
  writer: "users",
  aliases: ["configpatch", "cp"],
  sealed: true,
});
