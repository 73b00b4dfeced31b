import { create } from "@bufbuild/protobuf";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import {
  MachineSetPhase,
  type MachineSetSpec,
  MachinesSchema,
  ClusterMachineStatusSpec_Stage as Stage,
} from "#gen/specs/specs_pb.ts";
import { ClusterMachineStatusKind } from "#kinds/cluster/cluster-machine-status.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { MachineSetStatusKind } from "#kinds/cluster/machine-set-status.ts";
import { label } from "#kinds/labels.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { labelled } from "#resource/query.ts";
import type { Resource } from "#resource/resource.ts";
import { controlPlaneProblem } from "./control-plane-count.ts";
import { machineSet } from "./of-cluster.ts";

/** Counts the machines of each machine set and names its phase. */
export function machineSetStatusController(): Controller {
  return transform({
    name: "machine-set-status",
    purpose: "Counts the machines of each machine set and names its phase.",
    input: MachineSetKind,
    output: MachineSetStatusKind,
    inputs: [
      { kind: MachineSetNodeKind, wakes: machineSet },
      { kind: ClusterMachineStatusKind, wakes: machineSet },
      {
        kind: MachineKind,
        wakes: async ({ id }, reader) => {
          const node = await reader.get(MachineSetNodeKind, id);
          return node ? machineSet(node.metadata) : [];
        },
      },
    ],
    concurrency: 8,
    async transform(context, set) {
      const { metadata } = set;
      const mine = labelled({ [label.machineSet]: metadata.id });
      const [nodes, statuses] = await Promise.all([
        context.list(MachineSetNodeKind, mine),
        context.list(ClusterMachineStatusKind, mine),
      ]);
      const wanted = nodes.filter((node) => node.metadata.phase === "running").map((node) => node.metadata.id);
      const machines = await Promise.all(statuses.map((status) => context.get(MachineKind, status.metadata.id)));
      const present = statuses.filter(({ spec }) => spec.stage !== Stage.DESTROYING);
      const counts = create(MachinesSchema, {
        total: statuses.length,
        healthy: present.filter(({ spec }) => spec.ready).length,
        connected: machines.filter((machine) => machine?.spec.connected).length,
        requested: wanted.length,
      });
      const error = problem(set, wanted.length);
      const phase = phaseOf(statuses.length - present.length, present, wanted.length, error);
      return ({ spec, labels }) => {
        Object.assign(labels, metadata.labels);
        spec.machines = counts;
        spec.error = error;
        spec.phase = phase;
        spec.ready = phase === MachineSetPhase.Running && counts.healthy === counts.requested;
      };
    },
    teardown: async (context, { metadata }) => {
      const left = await context.list(ClusterMachineStatusKind, labelled({ [label.machineSet]: metadata.id }));
      await context.modify(MachineSetStatusKind, metadata.id, ({ spec }) => {
        spec.phase = MachineSetPhase.Destroying;
        spec.ready = false;
        spec.machines = create(MachinesSchema, { total: left.length });
      });
      return left.length === 0;
    },
  });
}

function problem({ metadata, spec }: Resource<MachineSetSpec>, wanted: number): string {
  if (spec.machineAllocation || spec.machineClass)
    return "machine sets that take their machines from a machine class are not built yet: name the machines";
  return (label.roleControlPlane in metadata.labels && controlPlaneProblem(wanted)) || "";
}

function phaseOf(
  leaving: number,
  present: readonly { readonly spec: { readonly stage: Stage; readonly configUpToDate: boolean } }[],
  wanted: number,
  error: string,
): MachineSetPhase {
  if (error) return MachineSetPhase.Failed;
  if (present.length < wanted) return MachineSetPhase.ScalingUp;
  if (leaving > 0 || present.length > wanted) return MachineSetPhase.ScalingDown;
  if (present.some(({ spec }) => spec.stage !== Stage.RUNNING)) return MachineSetPhase.ScalingUp;
  if (present.some(({ spec }) => !spec.configUpToDate)) return MachineSetPhase.Reconfiguring;
  return MachineSetPhase.Running;
}
