import { create } from "@bufbuild/protobuf";
import type { Context, Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import {
  ControlPlaneStatusSpec_Condition_Status as Condition,
  MachineSetPhase,
  type MachineSetStatusSpec,
  MachinesSchema,
  ClusterStatusSpec_Phase as Phase,
} from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { ControlPlaneStatusKind } from "#kinds/cluster/control-plane-status.ts";
import { LoadBalancerStatusKind } from "#kinds/cluster/load-balancer-status.ts";
import { MachineSetStatusKind } from "#kinds/cluster/machine-set-status.ts";
import { label } from "#kinds/labels.ts";
import { ClusterConfigVersionKind } from "#kinds/upgrade/cluster-config-version.ts";
import { labelled } from "#resource/query.ts";
import type { Resource } from "#resource/resource.ts";
import { cluster, isControlPlane, kubernetesVersion } from "./of-cluster.ts";

/** Sums up each cluster. */
export function clusterStatusController(): Controller {
  return transform({
    name: "cluster-status",
    purpose: "Sums up each cluster: phase, counts, whether its API answers.",
    input: ClusterKind,
    output: ClusterStatusKind,
    inputs: [
      { kind: MachineSetStatusKind, wakes: cluster },
      { kind: ControlPlaneStatusKind, wakes: cluster },
      { kind: LoadBalancerStatusKind },
      { kind: ClusterConfigVersionKind },
      { kind: ClusterMachineKind, wakes: cluster },
    ],
    concurrency: 8,
    async transform(context, { metadata, spec: wanted }) {
      const sets = await setsOf(context, metadata.id);
      const controlPlanes = sets.find((set) => isControlPlane(set.metadata));
      const conditions =
        (controlPlanes && (await context.get(ControlPlaneStatusKind, controlPlanes.metadata.id))?.spec.conditions) ??
        [];
      const healthyApi = (await context.get(LoadBalancerStatusKind, metadata.id))?.spec.healthy ?? false;
      const first = await context.get(ClusterConfigVersionKind, metadata.id);
      const kubernetes = await kubernetesVersion(context, metadata.id);
      return ({ spec, labels }) => {
        Object.assign(labels, metadata.labels);
        spec.machines = sum(sets);
        spec.available = (controlPlanes?.spec.machines?.total ?? 0) > 0;
        spec.hasConnectedControlPlanes = (controlPlanes?.spec.machines?.connected ?? 0) > 0;
        spec.controlplaneReady =
          (controlPlanes?.spec.ready ?? false) &&
          conditions.length > 0 &&
          conditions.every(({ status }) => status === Condition.Ready);
        spec.kubernetesAPIReady = healthyApi;
        spec.ready = sets.length > 0 && spec.controlplaneReady && sets.every((set) => set.spec.ready);
        spec.phase = phaseOf(sets);
        spec.useEmbeddedDiscoveryService = wanted.features?.useEmbeddedDiscoveryService ?? false;
        spec.disablePublicDiscoveryService = wanted.features?.disablePublicDiscoveryService ?? false;
        // What runs: neither can be changed yet.
        spec.initialTalosVersion = first?.spec.version.replace(/^v/, "") ?? "";
        spec.talosVersion = spec.initialTalosVersion || wanted.talosVersion;
        spec.kubernetesVersion = kubernetes ?? wanted.kubernetesVersion;
      };
    },
    teardown: async (context, { metadata }) => {
      const sets = await setsOf(context, metadata.id);
      await context.modify(ClusterStatusKind, metadata.id, ({ spec }) => {
        spec.phase = Phase.DESTROYING;
        spec.ready = false;
        spec.machines = sum(sets);
      });
      return sets.length === 0;
    },
  });
}

type SetStatus = Resource<MachineSetStatusSpec>;

function setsOf(context: Context, name: string): Promise<SetStatus[]> {
  return context.list(MachineSetStatusKind, labelled({ [label.cluster]: name }));
}

function sum(sets: readonly SetStatus[]) {
  const total = create(MachinesSchema);
  for (const { spec } of sets) {
    total.total += spec.machines?.total ?? 0;
    total.healthy += spec.machines?.healthy ?? 0;
    total.connected += spec.machines?.connected ?? 0;
    total.requested += spec.machines?.requested ?? 0;
  }
  return total;
}

function phaseOf(sets: readonly SetStatus[]): Phase {
  const phases = sets.map(({ spec }) => spec.phase);
  if (phases.length === 0) return Phase.SCALING_UP;
  if (phases.every((phase) => phase === MachineSetPhase.Running || phase === MachineSetPhase.Reconfiguring))
    return Phase.RUNNING;
  if (phases.some((phase) => phase === MachineSetPhase.ScalingDown || phase === MachineSetPhase.Destroying))
    return Phase.SCALING_DOWN;
  return Phase.SCALING_UP;
}
