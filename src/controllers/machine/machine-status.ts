import type { Deps } from "#controllers/deps.ts";
import type { Context, Controller } from "#engine/controller.ts";
import { TaskRunner } from "#engine/tasks.ts";
import { type MachineStatusSpec, MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineIdentityKind } from "#kinds/cluster/cluster-machine-identity.ts";
import { label } from "#kinds/labels.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineLabelsKind } from "#kinds/machine/machine-labels.ts";
import { MachineServicesKind } from "#kinds/machine/machine-services.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import type { Inventory } from "./inventory.ts";
import { statusLabels } from "./status-labels.ts";
import { watchMachine } from "./watch-machine.ts";

const name = "machine-status";

/** What a watching task is for: another one replaces it. */
interface Watched {
  readonly address: string;
  /** Public key of the link: a new boot, a new connection. */
  readonly bootKey: string;
  readonly cluster?: string;
}

/** Watches every connected machine, and writes what it tells. */
export function machineStatusController({ state, clients, clock, log }: Deps): Controller {
  const own = state.as(name);

  const publish = async (id: string, watched: Watched, maintenance: boolean, inventory: Inventory): Promise<void> => {
    await own.modify(MachineDetailsKind, id, ({ spec }) => {
      inventory.fillDetails(spec);
      spec.bootKey = watched.bootKey;
    });
    await own.modify(MachineServicesKind, id, ({ spec }) => inventory.fillServices(spec));
    if (watched.cluster !== undefined && !maintenance) {
      const member = await state.get(ClusterMachineKind, id);
      if (member?.metadata.phase === "running") {
        await own.modify(ClusterMachineIdentityKind, id, ({ spec, labels }) => {
          inventory.fillIdentity(spec);
          Object.assign(labels, member.metadata.labels);
        });
      }
    }
    // The connection may outlive the change, with rights that no longer fit: another one finds out what the machine is now.
    if (inventory.inMaintenance !== undefined && inventory.inMaintenance !== maintenance)
      throw new IchorError("aborted", maintenance ? "it is leaving maintenance" : "it is in maintenance");
    // Last: whoever is woken by the status finds the rest.
    await own.modify(MachineStatusKind, id, (draft) => {
      inventory.fillStatus(draft.spec);
      draft.spec.maintenance = maintenance;
      draft.spec.lastError = "";
      statusLabels(draft, inventory.version.tag);
    });
  };

  const tasks = new TaskRunner<Watched>(
    async (id, watched, signal, healthy) => {
      try {
        await clients.reach(watched, signal, async (client, maintenance) =>
          watchMachine(client, clock, signal, async (inventory) => {
            await publish(id, watched, maintenance, inventory);
            healthy();
          }),
        );
      } catch (error) {
        if (signal.aborted) return;
        const said = messageOf(error);
        await own.modify(MachineStatusKind, id, ({ spec }) => {
          spec.lastError = said;
        });
        throw error;
      }
    },
    clock,
    log.child({ controller: name }),
  );

  return {
    name,
    purpose: "Watches each connected machine and tells its hardware, network, versions, services and state.",
    inputs: [
      { kind: MachineKind, holds: true },
      { kind: LinkKind },
      { kind: ClusterMachineKind },
      { kind: MachineLabelsKind },
    ],
    outputs: [
      { kind: MachineStatusKind },
      { kind: MachineDetailsKind },
      { kind: MachineServicesKind },
      { kind: ClusterMachineIdentityKind },
    ],
    concurrency: 32,
    async reconcile(id, context) {
      const machine = await context.get(MachineKind, id);
      const member = await context.get(ClusterMachineKind, id);
      if (!machine || machine.metadata.phase === "tearingDown") {
        await tasks.sync(id, undefined);
        const gone = await removeAll(context, id);
        if (machine && gone) await context.release(MachineKind.key(id));
        return;
      }
      // Of an earlier machine with this UUID: it makes room first, and its end wakes us.
      const old = await context.get(MachineStatusKind, id);
      if (old?.metadata.phase === "tearingDown" && !(await removeAll(context, id))) return;
      await context.hold(MachineKind.key(id));
      const link = await context.get(LinkKind, id);
      const { managementAddress, connected } = machine.spec;
      const cluster = member?.metadata.labels[label.cluster];
      const wanted = await context.get(MachineLabelsKind, id);
      await context.modify(MachineStatusKind, id, (draft) => {
        const { spec } = draft;
        spec.managementAddress = managementAddress;
        spec.connected = connected;
        spec.cluster = cluster ?? "";
        spec.role = roleOf(member?.metadata.labels);
        setLabels(draft.labels, spec, member?.metadata.labels, wanted?.metadata.labels ?? {});
      });
      if (!member) await context.remove(ClusterMachineIdentityKind, id);
      const bootKey = link?.spec.nodePublicKey ?? "";
      const watched = { address: managementAddress, bootKey, ...(cluster === undefined ? {} : { cluster }) };
      await tasks.sync(id, connected && bootKey ? watched : undefined);
    },
    close: () => tasks.stop(),
  };
}

async function removeAll(context: Context, id: string): Promise<boolean> {
  const kinds = [ClusterMachineIdentityKind, MachineServicesKind, MachineDetailsKind, MachineStatusKind];
  const gone = await Promise.all(kinds.map((kind) => context.remove(kind, id)));
  return gone.every(Boolean);
}

function roleOf(labels: Readonly<Record<string, string>> | undefined): MachineStatusSpec_Role {
  if (!labels) return MachineStatusSpec_Role.NONE;
  return label.roleControlPlane in labels ? MachineStatusSpec_Role.CONTROL_PLANE : MachineStatusSpec_Role.WORKER;
}

/** Labels that the plane gives by what it knows without the machine; labels of users never hide them. */
function setLabels(
  labels: Record<string, string>,
  { connected }: MachineStatusSpec,
  member: Readonly<Record<string, string>> | undefined,
  wanted: Readonly<Record<string, string>>,
): void {
  const ours = "omni.sidero.dev/";
  for (const key of Object.keys(labels)) if (!key.startsWith(ours) && !(key in wanted)) delete labels[key];
  for (const [key, value] of Object.entries(wanted)) if (!key.startsWith(ours)) labels[key] = value;
  for (const key of [label.cluster, label.machineSet, label.roleControlPlane, label.roleWorker]) {
    if (member && key in member) labels[key] = member[key]!;
    else delete labels[key];
  }
  flag(labels, label.connected, connected);
  flag(labels, label.disconnected, !connected);
  flag(labels, label.available, !member);
}

function flag(labels: Record<string, string>, key: string, on: boolean): void {
  if (on) labels[key] = "";
  else delete labels[key];
}
