import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineKind } from "#kinds/machine/machine.ts";

/** Every link is a machine. */
export function machineController(): Controller {
  return transform({
    name: "machine",
    purpose: "Makes a machine of each admitted link, and tells whether it is connected.",
    input: LinkKind,
    output: MachineKind,
    concurrency: 16,
    async transform(_context, { spec }) {
      return (draft) => {
        draft.spec.managementAddress = spec.nodeSubnet.replace(/\/\d+$/, "");
        draft.spec.connected = spec.connected;
        draft.spec.useGrpcTunnel = spec.virtualAddrport !== "";
      };
    },
  });
}
