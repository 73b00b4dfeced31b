import { KernelArgsSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Extra kernel arguments wanted for a machine. Id: machine UUID. */
export const KernelArgsKind = defineKind({
  type: "KernelArgs.omni.sidero.dev",
  namespace: "default",
  spec: KernelArgsSpecSchema,
  writer: "users",
});
