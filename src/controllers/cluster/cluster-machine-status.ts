import { createHash } from "node:crypto";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { MachineOperationSpec_Kind, MachineOperationSpec_Step } from "#gen/ichor/v1/ichor_pb.ts";
import { MachineStatusEvent_MachineStage as Talos } from "#gen/machine/machine_pb.ts";
import { ConfigApplyStatus, ClusterMachineStatusSpec_Stage as Stage } from "#gen/specs/specs_pb.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineConfigKind } from "#kinds/cluster/cluster-machine-config.ts";
import { ClusterMachineConfigStatusKind } from "#kinds/cluster/cluster-machine-config-status.ts";
import { ClusterMachineStatusKind } from "#kinds/cluster/cluster-machine-status.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { MachineOperationKind } from "#kinds/machine/machine-operation.ts";
import { MachineStatusSnapshotKind } from "#kinds/machine/machine-status-snapshot.ts";

const stages: Readonly<Record<Talos, Stage>> = {
  [Talos.UNKNOWN]: Stage.UNKNOWN,
  [Talos.BOOTING]: Stage.BOOTING,
  [Talos.INSTALLING]: Stage.INSTALLING,
  [Talos.MAINTENANCE]: Stage.CONFIGURING,
  [Talos.RUNNING]: Stage.RUNNING,
  [Talos.REBOOTING]: Stage.REBOOTING,
  [Talos.SHUTTING_DOWN]: Stage.SHUTTING_DOWN,
  [Talos.RESETTING]: Stage.DESTROYING,
  [Talos.UPGRADING]: Stage.UPGRADING,
};

/** Tells how each machine stands in its cluster (protocols.md 13.7). */
export function clusterMachineStatusController(): Controller {
  return transform({
    name: "cluster-machine-status",
    purpose: "Tells how each machine stands in its cluster: stage, readiness, configuration.",
    input: ClusterMachineKind,
    output: ClusterMachineStatusKind,
    inputs: [
      { kind: MachineKind },
      { kind: MachineStatusSnapshotKind },
      { kind: ClusterMachineConfigKind },
      { kind: ClusterMachineConfigStatusKind },
      { kind: MachineOperationKind },
    ],
    concurrency: 16,
    async transform(context, { metadata }) {
      const { id } = metadata;
      const [machine, snapshot, config, applied, operation] = await Promise.all([
        context.get(MachineKind, id),
        context.get(MachineStatusSnapshotKind, id),
        context.get(ClusterMachineConfigKind, id),
        context.get(ClusterMachineConfigStatusKind, id),
        context.get(MachineOperationKind, id),
      ]);
      const event = snapshot?.spec.machineStatus;
      const installing =
        operation?.spec.kind === MachineOperationSpec_Kind.INSTALL &&
        operation.spec.step !== MachineOperationSpec_Step.DONE;
      const stage = installing ? Stage.INSTALLING : (stages[event?.stage ?? Talos.UNKNOWN] ?? Stage.UNKNOWN);
      const upToDate =
        config !== undefined &&
        config.spec.data.length > 0 &&
        createHash("sha256").update(config.spec.data).digest("hex") === applied?.spec.clusterMachineConfigSha256;
      const error = config?.spec.generationError || applied?.spec.lastConfigError || operation?.spec.error || "";
      return ({ spec, labels }) => {
        Object.assign(labels, metadata.labels);
        spec.stage = stage;
        spec.ready =
          stage === Stage.RUNNING && (event?.status?.ready ?? false) && (machine?.spec.connected ?? false) && upToDate;
        spec.configUpToDate = upToDate;
        spec.lastConfigError = error;
        spec.managementAddress = machine?.spec.managementAddress ?? "";
        spec.configApplyStatus = error
          ? ConfigApplyStatus.FAILED
          : upToDate
            ? ConfigApplyStatus.APPLIED
            : ConfigApplyStatus.PENDING;
        spec.isRemoved = false;
      };
    },
    // The status outlives the wish: it shows the reset until the machine is free.
    teardown: async (context, { metadata }) => {
      await context.modify(ClusterMachineStatusKind, metadata.id, ({ spec }) => {
        spec.stage = Stage.DESTROYING;
        spec.ready = false;
        spec.isRemoved = true;
      });
      const machine = await context.get(ClusterMachineKind, metadata.id);
      return (machine?.metadata.finalizers ?? []).every((name) => name === "cluster-machine-status");
    },
  });
}
