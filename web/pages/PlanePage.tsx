import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ControllerStatusSpec_Failing } from "#gen/ichor/v1/ichor_pb.ts";
import { ControllerStatusKind } from "#kinds/access/controller-status.ts";
import { Head } from "../parts/Head.tsx";
import { Ago } from "../ui/Ago.tsx";
import { Loading } from "../ui/Loading.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** The plane itself: what runs, and what fails and why. */
export function PlanePage() {
  const { items, status } = useWatch(ControllerStatusKind);
  const rows = [...items.values()].sort(
    (a, b) => b.spec.failing.length - a.spec.failing.length || a.metadata.id.localeCompare(b.metadata.id),
  );
  return (
    <>
      <Head title="Plane">
        <span className="sub">{rows.length} controllers</span>
      </Head>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <section className="card scroll" aria-label="Controllers" tabIndex={0}>
        <table className="table">
          <thead>
            <tr>
              <th scope="col">Controller</th>
              <th scope="col">State</th>
              <th scope="col" className="less">
                Reconciles
              </th>
              <th scope="col" className="less">
                Failures
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ metadata, spec }) => (
              <tr key={metadata.id}>
                <th scope="row" className="text">
                  {metadata.id}
                  <small>{spec.purpose}</small>
                </th>
                <td className="text">
                  {spec.failing.length === 0 ? (
                    <State tone="good" text={spec.queued > 0 ? `${spec.queued} queued` : "idle"} />
                  ) : (
                    spec.failing.map((failing) => <Failing key={failing.key} failing={failing} />)
                  )}
                </td>
                <td className="less">{String(spec.reconciles)}</td>
                <td className="less">{String(spec.failures)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {status === "loading" && <Loading what="controllers" />}
      </section>
    </>
  );
}

function Failing({ failing: { key, error, attempts, since } }: { failing: ControllerStatusSpec_Failing }) {
  return (
    <div>
      <State tone="bad" text={key} />
      <small>
        {error} ({attempts} tries, the first <Ago at={since ? timestampDate(since).getTime() : 0} />)
      </small>
    </div>
  );
}
