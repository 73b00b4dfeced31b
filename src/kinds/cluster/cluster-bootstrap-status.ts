import { ClusterBootstrapStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Whether etcd was bootstrapped: never twice. Id: cluster name. */
export const ClusterBootstrapStatusKind = defineKind({
  type: "ClusterBootstrapStatuses.omni.sidero.dev",
  namespace: "default",
  spec: ClusterBootstrapStatusSpecSchema,
  writer: "plane",
});
