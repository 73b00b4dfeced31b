import { SiderolinkSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** A machine that was admitted, with its tunnel address and WireGuard key. Id: machine UUID. Destroying it forgets the machine. */
export const LinkKind = defineKind({
  type: "Links.omni.sidero.dev",
  namespace: "default",
  spec: SiderolinkSpecSchema,
  writer: "plane",
  userMayDestroy: true,
});
