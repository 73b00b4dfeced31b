import { MachineServicesSpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** Services of a machine and their health. Id: machine UUID. */
export const MachineServicesKind = defineKind({
  type: "MachineServices.ichor.dev",
  namespace: "default",
  spec: MachineServicesSpecSchema,
  writer: "plane",
});
