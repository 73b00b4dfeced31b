import { GRPCTunnelConfigSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Forces the WireGuard-over-gRPC tunnel on or off for one machine. Id: machine UUID. */
export const GRPCTunnelConfigKind = defineKind({
  type: "GRPCTunnelConfigs.omni.sidero.dev",
  namespace: "default",
  spec: GRPCTunnelConfigSpecSchema,
  writer: "users",
});
