import { LoadBalancerStatusSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Whether a control plane answers behind the load balancer. Id: cluster name. */
export const LoadBalancerStatusKind = defineKind({
  type: "LoadBalancerStatuses.omni.sidero.dev",
  namespace: "default",
  spec: LoadBalancerStatusSpecSchema,
  writer: "plane",
});
