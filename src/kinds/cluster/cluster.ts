import { ClusterSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A cluster that is wanted: versions and features. Id: its name. */
export const ClusterKind = defineKind({
  type: "Clusters.omni.sidero.dev",
  namespace: "default",
  spec: ClusterSpecSchema,
  writer: "users",
  aliases: ["cluster"],
});
