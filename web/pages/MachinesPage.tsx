import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import { type MachineRow, toneOf, useMachineRows } from "../parts/machine-row.ts";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { State } from "../ui/State.tsx";

const columns: readonly (readonly [head: string, key: keyof MachineRow])[] = [
  ["State", "connected"],
  ["Name", "hostname"],
  ["Cluster", "cluster"],
  ["Talos", "talos"],
  ["Hardware", "hardware"],
  ["Address", "address"],
  ["Joined", "joined"],
];

/** All machines, live; only the rows in sight are drawn, so that ten thousand are as quick as ten. */
export function MachinesPage() {
  const { rows, loading } = useMachineRows();
  const { q = "" } = useSearch({ from: "/frame/machines" });
  const navigate = useNavigate();
  const [sort, setSort] = useState<{ key: keyof MachineRow; down: boolean }>({ key: "hostname", down: false });

  const shown = useMemo(() => arrange([...rows.values()], q, sort), [rows, q, sort]);
  const connected = [...rows.values()].filter((row) => row.connected).length;
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => 36,
    overscan: 20,
  });
  const items = virtual.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const below = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);

  if (!loading && rows.size === 0) return <NoMachines />;
  return (
    <>
      <header className="head">
        <h1>Machines</h1>
        <span className="sub">
          {rows.size} joined, {connected} connected
        </span>
        <span className="grow" />
        <input
          type="search"
          aria-label="Search machines"
          placeholder="Search name, id, cluster, address"
          size={34}
          value={q}
          onChange={(event) =>
            navigate({ to: paths.machines, search: event.target.value ? { q: event.target.value } : {}, replace: true })
          }
        />
      </header>
      <div className="card scroll" ref={scroll}>
        <table className="table" aria-busy={loading}>
          <thead>
            <tr>
              {columns.map(([head, key]) => (
                <th key={key} aria-sort={sort.key === key ? (sort.down ? "descending" : "ascending") : undefined}>
                  <button type="button" onClick={() => setSort({ key, down: sort.key === key && !sort.down })}>
                    {head}
                    {sort.key === key ? (sort.down ? " ↓" : " ↑") : ""}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {above > 0 && <tr style={{ height: above }} />}
            {items.map((item) => {
              const row = shown[item.index];
              return row && <Row key={row.id} row={row} />;
            })}
            {below > 0 && <tr style={{ height: below }} />}
          </tbody>
        </table>
        {!loading && shown.length === 0 && <div className="empty">No machine matches “{q}”.</div>}
        {loading && <div className="empty">Loading machines…</div>}
      </div>
    </>
  );
}

function Row({ row }: { row: MachineRow }) {
  return (
    <tr>
      <td>
        <State tone={toneOf(row)} text={row.connected ? row.stage || "connected" : "disconnected"} />
      </td>
      <td>
        <Link to={paths.machine(row.id)}>{row.hostname || <code>{row.id}</code>}</Link>
      </td>
      <td>
        {row.cluster ? (
          <Link to={paths.cluster(row.cluster)}>{row.cluster}</Link>
        ) : (
          <span className="sub">available</span>
        )}
      </td>
      <td>{row.talos}</td>
      <td>{row.hardware}</td>
      <td className="mono">{row.address}</td>
      <td>
        <Ago at={row.joined} />
      </td>
    </tr>
  );
}

function NoMachines() {
  return (
    <div className="card empty">
      <strong>No machine has joined yet.</strong>
      <span>Boot a Talos machine with the kernel arguments of this plane: it appears here by itself.</span>
      <Link to={paths.join}>
        <button type="button">Show the kernel arguments</button>
      </Link>
    </div>
  );
}

function arrange(rows: MachineRow[], q: string, sort: { key: keyof MachineRow; down: boolean }): MachineRow[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const found =
    words.length === 0
      ? rows
      : rows.filter((row) => words.every((word) => Object.values(row).join(" ").toLowerCase().includes(word)));
  const by = new Intl.Collator(undefined, { numeric: true });
  return found.sort(
    (a, b) => (sort.down ? -1 : 1) * (by.compare(String(a[sort.key]), String(b[sort.key])) || by.compare(a.id, b.id)),
  );
}
