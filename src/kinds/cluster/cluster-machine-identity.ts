import { ClusterMachineIdentitySpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Node name, addresses and etcd member of a machine. Id: machine UUID. */
export const ClusterMachineIdentityKind = defineKind({
  type: "ClusterMachineIdentities.omni.sidero.dev",
  namespace: "default",
  spec: ClusterMachineIdentitySpecSchema,
  writer: "plane",
});
