import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Context, Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import {
  type ClusterProgressSpec_Step,
  ClusterProgressSpec_StepSchema,
  ClusterProgressSpec_State as StepState,
} from "#gen/ichor/v1/ichor_pb.ts";
import { type ClusterSpec, ClusterMachineStatusSpec_Stage as Stage } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterBootstrapStatusKind } from "#kinds/cluster/cluster-bootstrap-status.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineStatusKind } from "#kinds/cluster/cluster-machine-status.ts";
import { ClusterProgressKind } from "#kinds/cluster/cluster-progress.ts";
import { LoadBalancerStatusKind } from "#kinds/cluster/load-balancer-status.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { MachineSetStatusKind } from "#kinds/cluster/machine-set-status.ts";
import { label } from "#kinds/labels.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineOperationKind } from "#kinds/machine/machine-operation.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { ClusterConfigVersionKind } from "#kinds/upgrade/cluster-config-version.ts";
import { labelled } from "#resource/query.ts";
import { cluster, kubernetesVersion } from "./of-cluster.ts";

/** One step as it is found now; since when it is so is kept. */
interface Found {
  readonly id: string;
  readonly title: string;
  readonly done: number;
  readonly total: number;
  /** What is waited for. */
  readonly detail?: string;
  readonly error?: string;
}

/** Tells what a cluster waits for and since when, in the order in which it happens. */
export function clusterProgressController(): Controller {
  const ofNode = {
    wakes: async ({ id }: { readonly id: string }, reader: Pick<Context, "get" | "list">) => {
      const node = await reader.get(MachineSetNodeKind, id);
      return node ? cluster(node.metadata) : [];
    },
  };
  return transform({
    name: "cluster-progress",
    purpose: "Tells what each cluster waits for, and since when.",
    input: ClusterKind,
    output: ClusterProgressKind,
    inputs: [
      { kind: MachineSetNodeKind, wakes: cluster },
      { kind: MachineSetStatusKind, wakes: cluster },
      { kind: ClusterMachineKind, wakes: cluster },
      { kind: ClusterMachineStatusKind, wakes: cluster },
      { kind: ClusterBootstrapStatusKind },
      { kind: LoadBalancerStatusKind },
      { kind: ClusterConfigVersionKind },
      { kind: MachineKind, ...ofNode },
      { kind: MachineStatusKind, wakes: cluster },
      { kind: MachineDetailsKind, ...ofNode },
      { kind: MachineOperationKind, ...ofNode },
    ],
    concurrency: 8,
    async transform(context, { metadata, spec }) {
      const { steps, errors } = await look(context, metadata.id, spec);
      const now = timestampFromMs(context.clock.now());
      return (draft) => {
        const before = new Map(draft.spec.steps.map((step) => [step.id, step]));
        draft.spec.steps = steps.map((found, index) => place(found, steps[index - 1], before.get(found.id), now));
        const last = errors[0] ?? "";
        if (last && last !== draft.spec.lastError) {
          draft.spec.lastError = last;
          draft.spec.lastErrorTime = now;
        }
        if (!last && draft.spec.steps.every(({ state }) => state === StepState.DONE)) {
          draft.spec.lastError = "";
          delete draft.spec.lastErrorTime;
        }
      };
    },
    teardown: async (context, { metadata }) => {
      const statuses = await context.list(ClusterMachineStatusKind, labelled({ [label.cluster]: metadata.id }));
      const now = timestampFromMs(context.clock.now());
      await context.modify(ClusterProgressKind, metadata.id, (draft) => {
        const before = draft.spec.steps.find(({ id }) => id === "reset");
        const total = Math.max(before?.total ?? 0, statuses.length);
        const found = {
          id: "reset",
          title: "Reset machines",
          done: total - statuses.length,
          total,
          detail: `${statuses.length} to go`,
        };
        draft.spec.steps = [place(found, undefined, before, now)];
      });
      return statuses.length === 0;
    },
  });
}

function place(
  found: Found,
  previous: Found | undefined,
  before: ClusterProgressSpec_Step | undefined,
  now: ReturnType<typeof timestampFromMs>,
): ClusterProgressSpec_Step {
  const done = found.done >= found.total && found.total > 0;
  const blocked = previous !== undefined && previous.done === 0;
  const state = done
    ? StepState.DONE
    : found.error
      ? StepState.FAILED
      : blocked
        ? StepState.WAITING
        : StepState.RUNNING;
  return create(ClusterProgressSpec_StepSchema, {
    id: found.id,
    title: found.title,
    done: found.done,
    total: found.total,
    state,
    detail: done ? "" : (found.detail ?? ""),
    error: found.error ?? "",
    since: before?.state === state && before.since ? before.since : now,
  });
}

async function look(
  context: Context,
  name: string,
  wanted: ClusterSpec,
): Promise<{ steps: Found[]; errors: string[] }> {
  const mine = labelled({ [label.cluster]: name });
  const nodes = (await context.list(MachineSetNodeKind, mine)).filter(({ metadata }) => metadata.phase === "running");
  const total = nodes.length;
  const missing: string[] = [];
  const notInstalled: string[] = [];
  const notApplied: string[] = [];
  const notReady: string[] = [];
  const errors: string[] = [];
  let waitsFor = "";
  for (const { metadata } of nodes) {
    const { id } = metadata;
    const [machine, machineStatus, details, operation, status] = await Promise.all([
      context.get(MachineKind, id),
      context.get(MachineStatusKind, id),
      context.get(MachineDetailsKind, id),
      context.get(MachineOperationKind, id),
      context.get(ClusterMachineStatusKind, id),
    ]);
    const shown = machineStatus?.spec.network?.hostname || id;
    if (!machine?.spec.connected) missing.push(shown);
    if (!details?.spec.systemDisk) notInstalled.push(shown);
    if (!status?.spec.configUpToDate) notApplied.push(shown);
    if (!(status?.spec.ready && status.spec.stage === Stage.RUNNING)) notReady.push(shown);
    waitsFor ||= details?.spec.unmetConditions[0] ?? "";
    const error = status?.spec.lastConfigError || operation?.spec.error;
    if (error) errors.push(`${shown}: ${error}`);
  }
  for (const { spec } of await context.list(MachineSetStatusKind, mine)) if (spec.error) errors.unshift(spec.error);
  const bootstrapped = (await context.get(ClusterBootstrapStatusKind, name))?.spec.bootstrapped ?? false;
  const api = (await context.get(LoadBalancerStatusKind, name))?.spec.healthy ?? false;
  const first = (await context.get(ClusterConfigVersionKind, name))?.spec.version.replace(/^v/, "");
  const stays = (what: string, at: string | undefined, asked: string) => {
    if (at && at !== asked)
      errors.unshift(
        `changing the ${what} version is not built yet: the cluster stays at ${at}, the template asks for ${asked}`,
      );
  };
  stays("Talos", first, wanted.talosVersion);
  stays("Kubernetes", await kubernetesVersion(context, name), wanted.kubernetesVersion);
  const count = (id: string, title: string, open: readonly string[]): Found => ({
    id,
    title,
    done: total - open.length,
    total,
    ...(open.length ? { detail: `waiting for ${some(open)}` } : {}),
  });
  const steps: Found[] = [
    count("join", "Machines connected", missing),
    count("install", "Talos installed", notInstalled),
    count("configure", "Configuration applied", notApplied),
    { id: "bootstrap", title: "etcd bootstrapped", done: Number(bootstrapped), total: 1 },
    {
      id: "kubernetes",
      title: "Kubernetes API answers",
      done: Number(api),
      total: 1,
      detail: "no control plane answers on port 6443 yet",
    },
    {
      ...count("ready", "Machines ready", notReady),
      ...(notReady.length && waitsFor ? { detail: `${some(notReady)}: ${waitsFor}` } : {}),
    },
  ];
  return { steps, errors };
}

function some(names: readonly string[]): string {
  return names.length <= 3 ? names.join(", ") : `${names.slice(0, 3).join(", ")} and ${names.length - 3} more`;
}
