import { KubernetesManifestGroupSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Manifests applied to a cluster. Id: `<weight>-cluster-<cluster>-<name>`. */
export const KubernetesManifestGroupKind = defineKind({
  type: "KubernetesManifestGroups.omni.sidero.dev",
  namespace: "default",
  spec: KubernetesManifestGroupSpecSchema,
  writer: "users",
  sealed: true,
});
