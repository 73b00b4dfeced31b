import { ExtensionsConfigurationSpecSchema } from "#gen/specs/specs_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** System extensions wanted for a cluster, set or machine. Id: `schematic-<of what>`. */
export const ExtensionsConfigurationKind = defineKind({
  type: "ExtensionsConfigurations.omni.sidero.dev",
  namespace: "default",
  spec: ExtensionsConfigurationSpecSchema,
  writer: "users",
});
