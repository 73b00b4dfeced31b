import { TalosVersionSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A Talos version that may be used, and its Kubernetes versions. Id: the version without `v`. */
export const TalosVersionKind = defineKind({
  type: "TalosVersions.omni.sidero.dev",
  namespace: "default",
  spec: TalosVersionSpecSchema,
  writer: "plane",
});
