import { createHash } from "node:crypto";
import type { Deps } from "#controllers/deps.ts";
import type { Context, Controller } from "#engine/controller.ts";
import { MachineOperationSpec_Kind, MachineOperationSpec_Step } from "#gen/ichor/v1/ichor_pb.ts";
import type { ClusterMachineSpec } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineConfigKind } from "#kinds/cluster/cluster-machine-config.ts";
import { ClusterMachineConfigStatusKind } from "#kinds/cluster/cluster-machine-config-status.ts";
import { label } from "#kinds/labels.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineConfigGenOptionsKind } from "#kinds/machine/machine-config-gen-options.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineOperationKind } from "#kinds/machine/machine-operation.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import type { Resource } from "#resource/resource.ts";
import { atLeast } from "#talos/version.ts";
import { applyConfig } from "./apply-config.ts";
import { installTalos } from "./install-talos.ts";
import { resetMachine } from "./reset-machine.ts";

/** A machine as it stands, in one boot. */
export interface Live {
  readonly id: string;
  readonly address: string;
  readonly cluster: string;
  /** Public key of its link: another one means that it rebooted. */
  readonly bootKey: string;
  readonly maintenance: boolean;
  readonly installed: boolean;
  /** Running Talos, with `v`. */
  readonly talosVersion: string;
}

/**
 * Makes machines run what is generated for them: installs Talos (protocols.md 13.3), applies the configuration (5.6), and resets them
 * when they leave (5.8). Every step is kept before it is taken, so that a plane that was killed goes on where it was.
 */
export function clusterMachineConfigStatusController(deps: Deps): Controller {
  return {
    name: "cluster-machine-config-status",
    purpose: "Installs machines, applies their configuration, resets those that leave.",
    inputs: [
      { kind: ClusterMachineKind, holds: true },
      { kind: ClusterMachineConfigKind },
      { kind: MachineStatusKind },
      { kind: MachineDetailsKind },
      { kind: LinkKind },
      { kind: MachineConfigGenOptionsKind },
      { kind: ClusterKind, wakes: () => [] },
    ],
    outputs: [{ kind: ClusterMachineConfigStatusKind }, { kind: MachineOperationKind }],
    concurrency: 64,
    timeout: 15 * 60_000,
    async reconcile(id, context) {
      const machine = await context.get(ClusterMachineKind, id);
      if (!machine) {
        await context.remove(MachineOperationKind, id);
        await context.remove(ClusterMachineConfigStatusKind, id);
        return;
      }
      if (machine.metadata.phase === "tearingDown") {
        if (!machine.metadata.finalizers.includes(this.name)) return;
        if (!(await leave(deps, context, machine))) return;
        const operationGone = await context.remove(MachineOperationKind, id);
        const statusGone = await context.remove(ClusterMachineConfigStatusKind, id);
        if (operationGone && statusGone) await context.release(ClusterMachineKind.key(id));
        return;
      }
      await context.hold(ClusterMachineKind.key(id));
      await bring(deps, context, machine);
    },
  };
}

/** Brings a machine to what is generated for it. */
async function bring(deps: Deps, context: Context, { metadata }: Resource<ClusterMachineSpec>): Promise<void> {
  const { id } = metadata;
  const config = await context.get(ClusterMachineConfigKind, id);
  if (!config) return;
  if (config.spec.generationError) {
    await context.modify(ClusterMachineConfigStatusKind, id, ({ spec, labels }) => {
      Object.assign(labels, metadata.labels);
      spec.lastConfigError = config.spec.generationError;
    });
    return;
  }
  const live = await look(context, metadata.id, metadata.labels[label.cluster] ?? "");
  if (!live) return;
  const options = (await context.get(MachineConfigGenOptionsKind, id))?.spec;
  const wantedVersion = `v${options?.installImage?.talosVersion ?? ""}`;
  const operation = (await context.get(MachineOperationKind, id))?.spec;
  const installing =
    operation?.kind === MachineOperationSpec_Kind.INSTALL && operation.step !== MachineOperationSpec_Step.DONE;
  // Older ones install when they get their configuration.
  const explicit = isVersion(wantedVersion) && atLeast(live.talosVersion, 1, 13) && atLeast(wantedVersion, 1, 13);
  if (live.maintenance && explicit && (installing || !live.installed)) {
    const done = await installTalos(deps, context, live, options?.installDisk ?? "", config);
    if (!done) return;
  }
  const text = Buffer.from(config.spec.data).toString();
  const hash = createHash("sha256").update(text).digest("hex");
  await applyConfig(deps, context, live, { text, hash, version: config.metadata.version, labels: metadata.labels });
}

/** True when the machine is out of its cluster: reset, or forgotten. */
async function leave(deps: Deps, context: Context, { metadata }: Resource<ClusterMachineSpec>): Promise<boolean> {
  const { id } = metadata;
  const link = await context.get(LinkKind, id);
  if (link?.metadata.phase !== "running") return true;
  const live = await look(context, id, metadata.labels[label.cluster] ?? "");
  if (!live) return false;
  const cluster = await context.get(ClusterKind, live.cluster);
  return resetMachine(deps, context, live, {
    controlPlane: label.roleControlPlane in metadata.labels,
    alone: cluster?.metadata.phase !== "running",
  });
}

/** How the machine stands; undefined while it is away, or what is known of it is of an earlier boot. */
async function look(context: Context, id: string, cluster: string): Promise<Live | undefined> {
  const link = await context.get(LinkKind, id);
  const details = await context.get(MachineDetailsKind, id);
  const status = await context.get(MachineStatusKind, id);
  if (!link?.spec.connected || !status || details?.spec.bootKey !== link.spec.nodePublicKey) return undefined;
  return {
    id,
    cluster,
    address: status.spec.managementAddress,
    bootKey: link.spec.nodePublicKey,
    maintenance: status.spec.maintenance,
    installed: details.spec.systemDisk !== "",
    talosVersion: status.spec.talosVersion,
  };
}

function isVersion(text: string): boolean {
  return /^v\d+\.\d+\.\d+/.test(text);
}
