import type { Context, Controller, Reader } from "#engine/controller.ts";
import type { ClusterMachineSpec, ClusterSpec, MachineSetSpec } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ControlPlaneStatusKind } from "#kinds/cluster/control-plane-status.ts";
import { LoadBalancerStatusKind } from "#kinds/cluster/load-balancer-status.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { annotation, label } from "#kinds/labels.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { labelled } from "#resource/query.ts";
import type { Metadata, Resource } from "#resource/resource.ts";
import { controlPlaneProblem } from "./control-plane-count.ts";
import { kubernetesVersion, machineSet } from "./of-cluster.ts";

/** How a machine set is seen at one moment. */
interface View {
  readonly set: Resource<MachineSetSpec>;
  readonly cluster: Resource<ClusterSpec> | undefined;
  /** Ids of machines that should be in it. */
  readonly wanted: ReadonlySet<string>;
  readonly members: readonly Resource<ClusterMachineSpec>[];
}

/**
 * Puts machines into their clusters and takes them out (protocols.md 13.7): all missing at once; control planes leave one at a time,
 * and only while the rest keeps quorum.
 */
export function clusterMachineController(): Controller {
  const ofNode = async ({ id }: Metadata, reader: Reader) => {
    const node = await reader.get(MachineSetNodeKind, id);
    return node ? machineSet(node.metadata) : [];
  };
  return {
    name: "cluster-machine",
    purpose: "Puts the machines of a machine set into its cluster, and takes them out one by one.",
    inputs: [
      { kind: MachineSetKind, holds: true },
      { kind: MachineSetNodeKind, holds: true, wakes: machineSet },
      { kind: MachineKind, holds: true, wakes: ofNode },
      { kind: LinkKind, wakes: ofNode },
      {
        kind: ClusterKind,
        wakes: async ({ id }, reader) =>
          (await reader.list(MachineSetKind, labelled({ [label.cluster]: id }))).map(({ metadata }) => metadata.id),
      },
      { kind: ControlPlaneStatusKind },
      { kind: LoadBalancerStatusKind, wakes: ({ id }) => [`${id}-control-planes`] },
    ],
    outputs: [{ kind: ClusterMachineKind }],
    async reconcile(id, context) {
      const set = await context.get(MachineSetKind, id);
      const mine = labelled({ [label.machineSet]: id });
      const [nodes, members] = await Promise.all([
        context.list(MachineSetNodeKind, mine),
        context.list(ClusterMachineKind, mine),
      ]);
      const tearing = set?.metadata.phase !== "running";
      const wanted = new Set<string>();
      for (const { metadata } of nodes) {
        if (metadata.phase === "running" && !tearing) {
          await context.hold(MachineSetNodeKind.key(metadata.id));
          wanted.add(metadata.id);
        }
      }
      if (set) {
        if (!tearing) await context.hold(MachineSetKind.key(id));
        const cluster = await context.get(ClusterKind, set.metadata.labels[label.cluster] ?? "");
        const view: View = { set, cluster, wanted, members };
        if (!tearing && cluster?.metadata.phase === "running") await add(context, view);
        await takeOut(context, view);
      }
      const left = new Set((await context.list(ClusterMachineKind, mine)).map(({ metadata }) => metadata.id));
      for (const { metadata } of nodes) {
        if (!wanted.has(metadata.id) && !left.has(metadata.id))
          await context.release(MachineSetNodeKind.key(metadata.id));
      }
      if (set && tearing && left.size === 0) await context.release(MachineSetKind.key(id));
    },
  };
}

async function add(context: Context, { set, cluster, wanted, members }: View): Promise<void> {
  const isControlPlane = label.roleControlPlane in set.metadata.labels;
  if (isControlPlane && controlPlaneProblem(wanted.size)) return;
  const present = new Set(members.map(({ metadata }) => metadata.id));
  const running = cluster && (await kubernetesVersion(context, cluster.metadata.id));
  for (const id of wanted) {
    const existing = await context.get(ClusterMachineKind, id);
    if (present.has(id) || existing) continue;
    // A machine that has not joined yet is waited for; one that is being forgotten does not come back.
    const machine = await context.get(MachineKind, id);
    if (machine?.metadata.phase !== "running") continue;
    await context.hold(MachineKind.key(id));
    await context.modify(ClusterMachineKind, id, (draft) => {
      draft.spec.kubernetesVersion = running ?? cluster?.spec.kubernetesVersion ?? "";
      const { labels } = set.metadata;
      draft.labels[label.cluster] = labels[label.cluster] ?? "";
      draft.labels[label.machineSet] = set.metadata.id;
      draft.labels[isControlPlane ? label.roleControlPlane : label.roleWorker] = "";
    });
  }
}

async function takeOut(context: Context, { set, cluster, wanted, members }: View): Promise<void> {
  const isControlPlane = label.roleControlPlane in set.metadata.labels;
  const destroying = set.metadata.phase !== "running" || cluster?.metadata.phase !== "running";
  const leaving = members.filter(({ metadata }) => metadata.phase !== "running");
  let budget = isControlPlane && !destroying ? 1 - leaving.length : Number.POSITIVE_INFINITY;
  if (annotation.clusterLocked in (cluster?.metadata.annotations ?? {}) && !destroying) budget = 0;
  for (const { metadata } of members) {
    const machine = await context.get(MachineKind, metadata.id);
    const link = await context.get(LinkKind, metadata.id);
    const forgotten = machine?.metadata.phase !== "running" || link?.metadata.phase !== "running";
    const keep = wanted.has(metadata.id) && !forgotten && !destroying;
    if (keep) continue;
    if (metadata.phase === "running") {
      if (budget <= 0) continue;
      budget--;
    }
    if (await context.remove(ClusterMachineKind, metadata.id)) await context.release(MachineKind.key(metadata.id));
  }
}
