import { ClusterConfigVersionSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The Talos version whose contract the cluster's configuration is generated with, frozen at creation. Id: cluster name. */
export const ClusterConfigVersionKind = defineKind({
  type: "ClusterConfigVersions.omni.sidero.dev",
  namespace: "default",
  spec: ClusterConfigVersionSpecSchema,
  writer: "plane",
});
