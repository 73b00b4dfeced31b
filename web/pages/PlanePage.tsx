import { timestampDate } from "@bufbuild/protobuf/wkt";
import { ControllerStatusKind } from "#kinds/access/controller-status.ts";
import { Ago } from "../ui/Ago.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** The plane itself: what runs, and what fails and why. */
export function PlanePage() {
  const { items } = useWatch(ControllerStatusKind);
  const rows = [...items.values()].sort(
    (a, b) => b.spec.failing.length - a.spec.failing.length || a.metadata.id.localeCompare(b.metadata.id),
  );
  return (
    <>
      <header className="head">
        <h1>Plane</h1>
        <span className="sub">{rows.length} controllers</span>
      </header>
      <div className="card scroll">
        <table className="table">
          <thead>
            <tr>
              {["Controller", "State", "Reconciles", "Failures", "Purpose"].map((head) => (
                <th key={head}>{head}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ metadata, spec }) => (
              <tr key={metadata.id}>
                <td>{metadata.id}</td>
                <td style={{ whiteSpace: "normal" }}>
                  {spec.failing.length === 0 ? (
                    <State tone="good" text={spec.queued > 0 ? `${spec.queued} queued` : "idle"} />
                  ) : (
                    spec.failing.map(({ key, error, since, attempts }) => (
                      <div key={key}>
                        <State tone="bad" text={`${key}: ${error}`} />{" "}
                        <span className="sub">
                          {attempts} tries, <Ago at={since ? timestampDate(since).getTime() : 0} />
                        </span>
                      </div>
                    ))
                  )}
                </td>
                <td>{String(spec.reconciles)}</td>
                <td>{String(spec.failures)}</td>
                <td style={{ whiteSpace: "normal" }} className="sub">
                  {spec.purpose}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        {rows.length === 0 && <div className="empty">Loading…</div>}
      </div>
    </>
  );
}
