import type { Command } from "commander";
import { confirm, noun, verb } from "#cli/command.ts";
import { age, answer, say } from "#cli/output.ts";
import { phaseName, showProgress } from "#cli/progress.ts";
import { localSource } from "#cli/template-source.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { applyPlan } from "#template/apply.ts";
import { planDelete } from "#template/plan.ts";

const list = verb("list", "clusters and how they stand", async ({ plane, json }) => {
  const [clusters, statuses] = await Promise.all([plane.state.list(ClusterKind), plane.state.list(ClusterStatusKind)]);
  const byId = new Map(statuses.map((status) => [status.metadata.id, status.spec]));
  const rows = clusters.map(({ metadata, spec }) => {
    const status = byId.get(metadata.id);
    return {
      name: metadata.id,
      phase: phaseName(status),
      ready: status?.ready ?? false,
      machines: {
        total: status?.machines?.total ?? 0,
        healthy: status?.machines?.healthy ?? 0,
        connected: status?.machines?.connected ?? 0,
      },
      talosVersion: spec.talosVersion,
      kubernetesVersion: spec.kubernetesVersion,
      created: metadata.created,
    };
  });
  answer(rows, {
    json,
    toJson: (row) => ({ ...row, created: new Date(row.created).toISOString() }),
    empty: 'There is no cluster yet. "ichor template sync --file FILE" makes one.',
    columns: [
      ["NAME", (row) => row.name],
      ["PHASE", (row) => row.phase],
      ["READY", (row) => (row.ready ? "yes" : "no")],
      ["MACHINES", (row) => `${row.machines.healthy}/${row.machines.total}`],
      ["TALOS", (row) => row.talosVersion],
      ["KUBERNETES", (row) => row.kubernetesVersion],
      ["AGE", (row) => age(row.created)],
    ],
  });
});

const status = verb<{ wait?: boolean; timeout?: string }>(
  "status <name>",
  "what a cluster waits for, live",
  async (invocation, options, name = "") => {
    await showProgress(invocation, name, {
      wait: options.wait ?? false,
      ...(options.timeout ? { timeout: options.timeout } : {}),
    });
  },
)
  .option("--wait", "stay until it is Running")
  .option("--timeout <duration>", "give up after that long, such as 10m");

const remove = verb<{ yes?: boolean }>(
  "delete <name>",
  "destroy a cluster and reset its machines",
  async (invocation, options, name = "") => {
    const plan = await planDelete(name, invocation.plane.state);
    const machines = plan.steps.filter(
      (step) => step.action === "delete" && step.kind.type.startsWith("MachineSetNodes"),
    ).length;
    await confirm(`Destroy cluster "${name}" and reset its ${machines} machines? Their data is lost.`, options.yes);
    await applyPlan(plan, invocation.plane.state, localSource.progress, invocation.signal);
    say(`Cluster "${name}" is destroyed.`);
  },
).option("--yes", "do not ask");

/** `ichor cluster …` */
export const cluster: Command = noun("cluster", "clusters").addCommand(list).addCommand(status).addCommand(remove);
