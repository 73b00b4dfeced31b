import { Link } from "@tanstack/react-router";
import { type ClusterMachineStatusSpec, ClusterMachineStatusSpec_StageSchema } from "#gen/specs/specs_pb.ts";
import { ClusterMachineStatusKind } from "#kinds/cluster/cluster-machine-status.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { label } from "#kinds/labels.ts";
import type { Resource } from "#resource/resource.ts";
import { paths } from "../paths.ts";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";
import { type MachineRow, toneOf, useMachineRows } from "./machine-row.ts";

/** Who is in a cluster: control planes first, then the sets of workers. */
export function Topology({ cluster }: { cluster: string }) {
  const sets = inCluster(useWatch(MachineSetKind).items, cluster);
  const nodes = useNodes(cluster);
  const isWorker = ({ metadata }: Resource) => label.roleWorker in metadata.labels;
  sets.sort((a, b) => Number(isWorker(a)) - Number(isWorker(b)) || a.metadata.id.localeCompare(b.metadata.id));
  return (
    <section className="card wide topology" aria-label="Topology">
      {sets.map((set) => (
        <MachineSet
          key={set.metadata.id}
          title={isWorker(set) ? workersTitle(set.metadata.id, cluster) : "Control planes"}
          nodes={nodes.filter(({ metadata }) => metadata.labels[label.machineSet] === set.metadata.id)}
        />
      ))}
      {sets.length === 0 && <span className="sub">No machines yet.</span>}
    </section>
  );
}

/** The machines that a cluster is meant to have. */
export function useNodes(cluster: string): Resource[] {
  return inCluster(useWatch(MachineSetNodeKind).items, cluster);
}

function MachineSet({ title, nodes }: { title: string; nodes: readonly Resource[] }) {
  const { rows } = useMachineRows();
  const statuses = useWatch(ClusterMachineStatusKind).items;
  const ready = nodes.filter(({ metadata }) => statuses.get(metadata.id)?.spec.ready).length;
  return (
    <section aria-label={title}>
      <h2>
        {title} {ready}/{nodes.length}
      </h2>
      <ul className="nodes">
        {nodes.map(({ metadata: { id } }) => (
          <li key={id}>
            <Node id={id} row={rows.get(id)} status={statuses.get(id)?.spec} />
          </li>
        ))}
      </ul>
    </section>
  );
}

interface NodeProps {
  readonly id: string;
  /** Undefined before it joined. */
  readonly row: MachineRow | undefined;
  readonly status: ClusterMachineStatusSpec | undefined;
}

function Node({ id, row, status }: NodeProps) {
  const name = ClusterMachineStatusSpec_StageSchema.value[status?.stage ?? 0]?.localName ?? "";
  const stage = name.toLowerCase().replaceAll("_", " ");
  const ready = row?.connected && status?.ready;
  const tone = !row ? "bad" : ready ? "good" : toneOf({ ...row, stage });
  return (
    <Link to={paths.machine(id)} className="node">
      <State tone={tone === "good" && !ready ? "warn" : tone} text={row?.hostname || id.slice(0, 8)} />
      <small>{!row ? "not joined yet" : !row.connected ? "disconnected" : ready ? "ready" : stage}</small>
      {row && <small>{row.hardware}</small>}
      {status?.lastConfigError && (
        <small role="alert" className="error">
          {status.lastConfigError}
        </small>
      )}
    </Link>
  );
}

/** `shop-workers` of `shop` is "Workers", `shop-tills` is "Workers, tills". */
function workersTitle(id: string, cluster: string): string {
  const own = id.startsWith(`${cluster}-`) ? id.slice(cluster.length + 1) : id;
  return own === "workers" ? "Workers" : `Workers, ${own}`;
}

function inCluster<R extends Resource>(items: ReadonlyMap<string, R>, name: string): R[] {
  return [...items.values()].filter(({ metadata }) => metadata.labels[label.cluster] === name);
}
