import { SiderolinkSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A machine that called without a unique token yet. Id: its WireGuard public key. */
export const PendingMachineKind = defineKind({
  type: "PendingMachines.omni.sidero.dev",
  namespace: "ephemeral",
  spec: SiderolinkSpecSchema,
  writer: "plane",
  userMayDestroy: true,
});
