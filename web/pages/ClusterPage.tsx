import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { ClusterProgressSpec_State, type ClusterProgressSpec_Step } from "#gen/ichor/v1/ichor_pb.ts";
import { ClusterMachineStatusSpec_StageSchema } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterMachineStatusKind } from "#kinds/cluster/cluster-machine-status.ts";
import { ClusterProgressKind } from "#kinds/cluster/cluster-progress.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { label } from "#kinds/labels.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import { state } from "../api.ts";
import { toneOf, useMachineRows } from "../parts/machine-row.ts";
import { NotFound } from "../parts/NotFound.tsx";
import { phaseOf } from "../parts/phase.ts";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { Confirm } from "../ui/Confirm.tsx";
import { Copy } from "../ui/Copy.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** One cluster: what it waits for, who is in it, how to reach it. */
export function ClusterPage() {
  const { name } = useParams({ from: "/frame/clusters/$name" });
  const clusters = useWatch(ClusterKind);
  const status = useWatch(ClusterStatusKind).items.get(name)?.spec;
  const progress = useWatch(ClusterProgressKind).items.get(name)?.spec;
  const sets = inCluster(useWatch(MachineSetKind).items, name);
  const nodes = inCluster(useWatch(MachineSetNodeKind).items, name);
  const navigate = useNavigate();
  const cluster = clusters.items.get(name);
  if (!cluster)
    return clusters.status === "loading" ? <div className="empty">Loading…</div> : <NotFound what="cluster" />;

  const destroy = async () => {
    const teardown = (kind: AnyKind, id: string) => state.teardown({ ...kind.key(id) });
    for (const { metadata } of nodes) await teardown(MachineSetNodeKind, metadata.id);
    for (const { metadata } of sets) await teardown(MachineSetKind, metadata.id);
    await teardown(ClusterKind, name);
    await navigate({ to: paths.clusters });
  };
  return (
    <>
      <header className="head">
        <h1>{name}</h1>
        <State {...phaseOf(status)} />
        <span className="sub">
          {status?.machines?.healthy ?? 0}/{status?.machines?.total ?? 0} machines ready, Talos{" "}
          {cluster.spec.talosVersion}, Kubernetes {cluster.spec.kubernetesVersion}
        </span>
        <span className="grow" />
        <Confirm
          action="Destroy cluster"
          name={name}
          run={destroy}
          consequence={`Its ${nodes.length} machines are reset and become available again. Their data is lost.`}
        />
      </header>
      {progress?.lastError && (
        <div className="banner" role="alert">
          {progress.lastError}
        </div>
      )}
      <div className="grid">
        <section className="card wide">
          <h2>Progress</h2>
          <ol className="steps">
            {(progress?.steps ?? []).map((step) => (
              <Step key={step.id} step={step} />
            ))}
          </ol>
          {!progress && <span className="sub">Nothing told yet.</span>}
        </section>
        <section className="card wide topology" aria-label="Topology">
          {sets
            .sort(
              (a, b) => Number(label.roleWorker in a.metadata.labels) - Number(label.roleWorker in b.metadata.labels),
            )
            .map(({ metadata }) => (
              <MachineSet
                key={metadata.id}
                id={metadata.id}
                nodes={nodes.filter((node) => node.metadata.labels[label.machineSet] === metadata.id)}
              />
            ))}
        </section>
        <section className="card wide">
          <h2>Reach it</h2>
          <Copy
            label="Commands"
            text={`./ichor kubeconfig --cluster ${name} --output ${name}.kubeconfig\nkubectl --kubeconfig ${name}.kubeconfig get nodes`}
          />
        </section>
      </div>
    </>
  );
}

function Step({ step }: { step: ClusterProgressSpec_Step }) {
  const tones = {
    [ClusterProgressSpec_State.DONE]: "good",
    [ClusterProgressSpec_State.FAILED]: "bad",
    [ClusterProgressSpec_State.RUNNING]: "warn",
  } as const;
  const words = ["waiting", "working", "done", "failed"];
  const tone = tones[step.state as keyof typeof tones] ?? "idle";
  return (
    <li>
      <State tone={tone} text="" busy={tone === "warn"} />
      <span>
        {step.title} <span className="sub">{words[step.state]}</span>
      </span>
      <span>{step.total > 0 ? `${step.done}/${step.total}` : ""}</span>
      <span className={step.error ? "error" : "why"}>
        {step.error || (step.state === ClusterProgressSpec_State.DONE ? "" : step.detail)}
      </span>
      <span className="since">{step.since && <Ago at={timestampDate(step.since).getTime()} />}</span>
    </li>
  );
}

function MachineSet({ id, nodes }: { id: string; nodes: Resource[] }) {
  const { rows } = useMachineRows();
  const statuses = useWatch(ClusterMachineStatusKind).items;
  return (
    <div>
      <h2>{id}</h2>
      <div className="nodes">
        {nodes.map(({ metadata }) => {
          const row = rows.get(metadata.id);
          const status = statuses.get(metadata.id)?.spec;
          const stage = ClusterMachineStatusSpec_StageSchema.value[status?.stage ?? 0]?.localName
            .toLowerCase()
            .replaceAll("_", " ");
          const tone = row ? (status?.ready ? "good" : toneOf({ ...row, stage: stage ?? "" })) : "bad";
          return (
            <Link key={metadata.id} to={paths.machine(metadata.id)} className="node">
              <State
                tone={tone === "good" && !status?.ready ? "warn" : tone}
                text={row?.hostname || metadata.id.slice(0, 8)}
              />
              <small>
                {row ? (row.connected ? (status?.ready ? "ready" : stage) : "disconnected") : "not joined yet"}
              </small>
              {status?.lastConfigError && <small role="alert">{status.lastConfigError}</small>}
            </Link>
          );
        })}
        {nodes.length === 0 && <span className="sub">No machines.</span>}
      </div>
    </div>
  );
}

function inCluster<R extends Resource>(items: ReadonlyMap<string, R>, name: string): R[] {
  return [...items.values()].filter(({ metadata }) => metadata.labels[label.cluster] === name);
}
