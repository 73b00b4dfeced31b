import { ClusterSecretsSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The secrets bundle of a cluster. Id: cluster name. */
export const ClusterSecretsKind = defineKind({
  type: "ClusterSecrets.omni.sidero.dev",
  namespace: "default",
  spec: ClusterSecretsSpecSchema,
  writer: "plane",
  secret: true,
});
