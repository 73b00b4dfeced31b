import { ClusterMachineConfigPatchesSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** All patches of one machine in the order of their application. Id: machine UUID. */
export const ClusterMachineConfigPatchesKind = defineKind({
  type: "ClusterMachineConfigPatches.omni.sidero.dev",
  namespace: "default",
  spec: ClusterMachineConfigPatchesSpecSchema,
  writer: "plane",
  secret: true,
});
