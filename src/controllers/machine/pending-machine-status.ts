import { randomUUID } from "node:crypto";
import type { Deps } from "#controllers/deps.ts";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { label, pending } from "#kinds/labels.ts";
import { PendingMachineKind } from "#kinds/machine/pending-machine.ts";
import { PendingMachineStatusKind } from "#kinds/machine/pending-machine-status.ts";
import { machineError } from "#talos/client.ts";
import { listTalos } from "#talos/cosi.ts";
import { fingerprintOf, uniqueToken } from "#talos/identity.ts";
import { talosKinds } from "#talos/resources.ts";

const metaUUIDOverride = 15;
const metaUniqueToken = 16;

/**
 * Gives a machine that called without a unique token its own (protocols.md 2.8): first, where its UUID is taken by other hardware, a
 * UUID of its own; then the token. Both are chosen once and kept before they are sent, so that a second try sends the same.
 */
export function pendingMachineStatusController({ clients }: Deps): Controller {
  return transform({
    name: "pending-machine-status",
    purpose: "Gives machines that call for the first time their unique token.",
    input: PendingMachineKind,
    output: PendingMachineStatusKind,
    inputs: [{ kind: ClusterMachineKind, wakes: () => [] }],
    concurrency: 64,
    timeout: 60_000,
    async transform(context, machine) {
      if (!machine.spec.connected) return false;
      const address = machine.spec.nodeSubnet.replace(/\/\d+$/, "");
      const uuid = machine.metadata.labels[pending.uuidLabel] ?? "";
      const member = await context.get(ClusterMachineKind, uuid);
      const conflict = pending.conflictAnnotation in machine.metadata.annotations;
      const cluster = conflict ? undefined : member?.metadata.labels[label.cluster];
      const { id } = machine.metadata;
      const { signal } = context;
      await clients.reach({ address, ...(cluster ? { cluster } : {}) }, signal, async (client) => {
        const [disks, links] = await Promise.all([
          listTalos(client, talosKinds.systemDisk, signal),
          listTalos(client, talosKinds.link, signal),
        ]).catch((error: unknown) => {
          throw machineError(error, "reading its disks and links");
        });
        const kept = await context.modify(PendingMachineStatusKind, id, (draft) => {
          draft.spec.token ||= uniqueToken(fingerprintOf(links));
          draft.spec.talosInstalled = disks.length > 0;
          if (conflict) draft.annotations[pending.newUUIDAnnotation] ??= randomUUID();
        });
        const write = async (key: number, value: string) => {
          await client.machine.metaWrite({ key, value: Buffer.from(value) }, { signal, timeoutMs: 15_000 });
        };
        try {
          const other = kept.metadata.annotations[pending.newUUIDAnnotation];
          if (conflict && other) await write(metaUUIDOverride, other);
          await write(metaUniqueToken, kept.spec.token);
        } catch (error) {
          throw machineError(error, "writing its unique token");
        }
      });
      return false;
    },
  });
}
