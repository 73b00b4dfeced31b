import { Link } from "@tanstack/react-router";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { phaseOf } from "../parts/phase.ts";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { Copy } from "../ui/Copy.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** All clusters, live. */
export function ClustersPage() {
  const clusters = useWatch(ClusterKind);
  const statuses = useWatch(ClusterStatusKind);
  if (clusters.status !== "loading" && clusters.items.size === 0) return <NoClusters />;
  return (
    <>
      <header className="head">
        <h1>Clusters</h1>
        <span className="sub">{clusters.items.size}</span>
      </header>
      <div className="card scroll">
        <table className="table">
          <thead>
            <tr>
              {["Name", "State", "Machines ready", "Talos", "Kubernetes", "Created"].map((head) => (
                <th key={head}>{head}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {[...clusters.items.values()].map(({ metadata, spec }) => {
              const status = statuses.items.get(metadata.id)?.spec;
              return (
                <tr key={metadata.id}>
                  <td>
                    <Link to={paths.cluster(metadata.id)}>{metadata.id}</Link>
                  </td>
                  <td>
                    <State {...phaseOf(status)} />
                  </td>
                  <td>
                    {status?.machines?.healthy ?? 0}/{status?.machines?.total ?? 0}
                  </td>
                  <td>{spec.talosVersion}</td>
                  <td>{spec.kubernetesVersion}</td>
                  <td>
                    <Ago at={metadata.created} />
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

function NoClusters() {
  return (
    <div className="card empty">
      <strong>There is no cluster yet.</strong>
      <span>A cluster comes from a template: a file that says which machines it has.</span>
      <Copy label="Command" text="./ichor template sync --file cluster.yaml --wait" />
    </div>
  );
}
