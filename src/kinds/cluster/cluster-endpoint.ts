import { ClusterEndpointSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Link addresses of a cluster's control planes. Id: cluster name. */
export const ClusterEndpointKind = defineKind({
  type: "ClusterEndpoints.omni.sidero.dev",
  namespace: "default",
  spec: ClusterEndpointSpecSchema,
  writer: "plane",
});
