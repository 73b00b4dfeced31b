import { Link } from "@tanstack/react-router";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { Head } from "../parts/Head.tsx";
import { phaseOf } from "../parts/phase.ts";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { Copy } from "../ui/Copy.tsx";
import { Loading } from "../ui/Loading.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** All clusters, live. */
export function ClustersPage() {
  const { items, status } = useWatch(ClusterKind);
  const statuses = useWatch(ClusterStatusKind).items;
  const clusters = [...items.values()].sort((a, b) => a.metadata.id.localeCompare(b.metadata.id));
  return (
    <>
      <Head title="Clusters">
        <span className="sub" role="status">
          {clusters.length > 0 && String(clusters.length)}
        </span>
      </Head>
      {status === "loading" && <Loading what="clusters" />}
      {status !== "loading" && clusters.length === 0 && <NoClusters />}
      {clusters.length > 0 && (
        <div className="card scroll">
          <table className="table">
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">State</th>
                <th scope="col">Ready</th>
                <th scope="col" className="less">
                  Talos
                </th>
                <th scope="col" className="less">
                  Kubernetes
                </th>
                <th scope="col" className="less">
                  Created
                </th>
              </tr>
            </thead>
            <tbody>
              {clusters.map(({ metadata, spec }) => {
                const status = statuses.get(metadata.id)?.spec;
                return (
                  <tr key={metadata.id}>
                    <th scope="row">
                      <Link to={paths.cluster(metadata.id)} data-row>
                        {metadata.id}
                      </Link>
                    </th>
                    <td>
                      <State {...phaseOf(status)} />
                    </td>
                    <td>
                      {status?.machines?.healthy ?? 0}/{status?.machines?.total ?? 0}
                    </td>
                    <td className="less">{spec.talosVersion}</td>
                    <td className="less">{spec.kubernetesVersion}</td>
                    <td className="less">
                      <Ago at={metadata.created} />
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function NoClusters() {
  return (
    <div className="card empty">
      <strong>There is no cluster yet</strong>
      <span>A cluster comes from a template: a file that says which machines it has. It appears here by itself.</span>
      <Copy label="Command" text="./ichor template sync cluster.yaml --wait" />
    </div>
  );
}
