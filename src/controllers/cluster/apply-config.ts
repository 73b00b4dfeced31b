import type { Deps } from "#controllers/deps.ts";
import type { Context } from "#engine/controller.ts";
import { ApplyConfigurationRequest_Mode } from "#gen/machine/machine_pb.ts";
import { ClusterMachineConfigStatusKind } from "#kinds/cluster/cluster-machine-config-status.ts";
import { machineError } from "#talos/client.ts";
import type { Live } from "./cluster-machine-config-status.ts";

/** What is to run on a machine. */
interface Wanted {
  readonly text: string;
  /** SHA-256 of the text, hex. */
  readonly hash: string;
  /** Of the generated resource. */
  readonly version: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** Annotation: hash of the configuration that the machine refused; it is not offered again. */
const refused = "ichor.dev/refused-config";
/** Annotation: the boot in which it was accepted in maintenance; it takes a moment until the machine has left that. */
const acceptedIn = "ichor.dev/accepted-in-boot";

/** Applies a configuration unless the machine runs it, or has refused it (protocols.md 5.6). */
export async function applyConfig(
  { clients, clock }: Deps,
  context: Context,
  { id, address, cluster, bootKey, maintenance, talosVersion }: Live,
  { text, hash, version, labels }: Wanted,
): Promise<void> {
  const status = await context.get(ClusterMachineConfigStatusKind, id);
  const annotations = status?.metadata.annotations ?? {};
  if (annotations[refused] === hash) return;
  if (status?.spec.clusterMachineConfigSha256 === hash && (!maintenance || annotations[acceptedIn] === bootKey)) {
    if (status.spec.talosVersion !== talosVersion || status.spec.clusterMachineConfigVersion !== String(version)) {
      await context.modify(ClusterMachineConfigStatusKind, id, ({ spec }) => {
        spec.talosVersion = talosVersion;
        spec.clusterMachineConfigVersion = String(version);
      });
    }
    return;
  }
  const client = maintenance ? clients.maintenance(address) : await clients.ofCluster(address, cluster);
  try {
    await client.machine.applyConfiguration(
      { data: Buffer.from(text), mode: ApplyConfigurationRequest_Mode.AUTO },
      { signal: context.signal, timeoutMs: 60_000 },
    );
  } catch (cause) {
    const error = machineError(cause, "applying the configuration");
    if (error.code !== "invalid_argument") throw error;
    await context.modify(ClusterMachineConfigStatusKind, id, (draft) => {
      Object.assign(draft.labels, labels);
      draft.spec.lastConfigError = error.message;
      draft.annotations[refused] = hash;
    });
    context.log.warn({ machine: id, error: error.message, at: clock.now() }, "the machine refuses its configuration");
    return;
  } finally {
    client.close();
  }
  await context.modify(ClusterMachineConfigStatusKind, id, (draft) => {
    Object.assign(draft.labels, labels);
    delete draft.annotations[refused];
    if (maintenance) draft.annotations[acceptedIn] = bootKey;
    draft.spec.clusterMachineConfigSha256 = hash;
    draft.spec.clusterMachineConfigVersion = String(version);
    draft.spec.lastConfigError = "";
    draft.spec.talosVersion = talosVersion;
  });
}
