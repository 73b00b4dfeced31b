import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef } from "react";
import { Head } from "../parts/Head.tsx";
import { type MachineRow, toneOf, useMachineRows } from "../parts/machine-row.ts";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { Loading } from "../ui/Loading.tsx";
import { State } from "../ui/State.tsx";

/** `less`: not on small screens. */
const columns: readonly (readonly [head: string, key: keyof MachineRow, less?: "less"])[] = [
  ["State", "state"],
  ["Name", "hostname"],
  ["Cluster", "cluster"],
  ["Talos", "talos", "less"],
  ["Hardware", "hardware", "less"],
  ["Address", "address", "less"],
  ["Joined", "joined", "less"],
];

/** All machines, live; only the rows in sight are drawn, so that ten thousand are as quick as ten. */
export function MachinesPage() {
  const { rows, loading } = useMachineRows();
  const { q = "", sort = "hostname" } = useSearch({ from: "/frame/machines" });
  const navigate = useNavigate();
  const show = (search: { q?: string; sort?: string }) => navigate({ to: paths.machines, search, replace: true });
  const down = sort.startsWith("-");
  const by = sort.replace("-", "");

  const shown = useMemo(() => arrange([...rows.values()], q, by, down), [rows, q, by, down]);
  const connected = [...rows.values()].filter((row) => row.connected).length;
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => 37,
    overscan: 20,
  });
  const items = virtual.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const below = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);

  if (!loading && rows.size === 0) return <NoMachines />;
  return (
    <>
      <Head title="Machines">
        <span className="sub" role="status">
          {!loading && `${rows.size} joined, ${connected} connected${q ? `, ${shown.length} shown` : ""}`}
        </span>
        <span className="grow" />
        <input
          type="search"
          aria-label="Search machines"
          placeholder="Search name, id, cluster, address"
          size={34}
          value={q}
          onChange={({ target }) =>
            show({ ...(target.value ? { q: target.value } : {}), ...(sort === "hostname" ? {} : { sort }) })
          }
        />
      </Head>
      <div className="card scroll" ref={scroll}>
        <table className="table" aria-busy={loading} aria-rowcount={shown.length + 1}>
          <thead>
            <tr aria-rowindex={1}>
              {columns.map(([head, key, less]) => (
                <th
                  key={key}
                  scope="col"
                  className={less}
                  aria-sort={by === key ? (down ? "descending" : "ascending") : undefined}
                >
                  <button
                    type="button"
                    onClick={() => show({ ...(q ? { q } : {}), sort: by === key && !down ? `-${key}` : key })}
                  >
                    {head}
                    <span aria-hidden="true">{by === key ? (down ? " ↓" : " ↑") : ""}</span>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {above > 0 && <tr style={{ height: above }} />}
            {items.map((item) => {
              const row = shown[item.index];
              return row && <Row key={row.id} row={row} index={item.index + 2} />;
            })}
            {below > 0 && <tr style={{ height: below }} />}
          </tbody>
        </table>
        {!loading && shown.length === 0 && <div className="empty">No machine matches “{q}”.</div>}
        {loading && <Loading what="machines" />}
      </div>
    </>
  );
}

function Row({ row, index }: { row: MachineRow; index: number }) {
  return (
    <tr aria-rowindex={index}>
      <td>
        <State tone={toneOf(row)} text={row.state} />
      </td>
      <th scope="row">
        <Link to={paths.machine(row.id)} data-row>
          {row.hostname || <code>{row.id}</code>}
        </Link>
      </th>
      <td>
        {row.cluster ? (
          <Link to={paths.cluster(row.cluster)}>{row.cluster}</Link>
        ) : (
          <span className="sub">available</span>
        )}
      </td>
      <td className="less">{row.talos}</td>
      <td className="less">{row.hardware}</td>
      <td className="less mono">{row.address}</td>
      <td className="less">
        <Ago at={row.joined} />
      </td>
    </tr>
  );
}

function NoMachines() {
  return (
    <>
      <Head title="Machines" />
      <div className="card empty">
        <strong>No machine has joined yet</strong>
        <span>Boot a Talos machine with the kernel arguments of this plane: it appears here by itself.</span>
        <Link to={paths.join} className="button">
          Show the kernel arguments
        </Link>
      </div>
    </>
  );
}

function arrange(rows: MachineRow[], q: string, by: string, down: boolean): MachineRow[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const found =
    words.length === 0
      ? rows
      : rows.filter((row) => {
          const text = Object.values(row).join(" ").toLowerCase();
          return words.every((word) => text.includes(word));
        });
  const key = columns.find(([, key]) => key === by)?.[1] ?? "hostname";
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  return found.sort((a, b) => (down ? -1 : 1) * (compare(String(a[key]), String(b[key])) || compare(a.id, b.id)));
}
