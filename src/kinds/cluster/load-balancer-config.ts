import { LoadBalancerConfigSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** The port of the cluster's API inside the link, and what is behind it. Id: cluster name. */
export const LoadBalancerConfigKind = defineKind({
  type: "LoadBalancerConfigs.omni.sidero.dev",
  namespace: "default",
  spec: LoadBalancerConfigSpecSchema,
  writer: "plane",
});
