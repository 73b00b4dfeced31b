import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import {
  createColumnHelper,
  createSortedRowModel,
  type Row,
  rowSortingFeature,
  type SortingState,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef } from "react";
import { Head } from "../parts/Head.tsx";
import { type MachineRow, toneOf, useMachineRows } from "../parts/machine-row.ts";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { Loading } from "../ui/Loading.tsx";
import { State } from "../ui/State.tsx";

const features = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel(), sortFns: {} });
const { compare } = new Intl.Collator(undefined, { numeric: true });
/** As people count: node-9 before node-10. Machines of one value keep their order by id. */
const byText = (a: Row<typeof features, MachineRow>, b: Row<typeof features, MachineRow>, column: string) =>
  compare(String(a.getValue(column)), String(b.getValue(column))) || compare(a.id, b.id);

const column = createColumnHelper<typeof features, MachineRow>();
const columns = column.columns([
  column.accessor("state", {
    header: "State",
    sortFn: byText,
    cell: ({ row: { original: row } }) => <State tone={toneOf(row)} text={row.state} />,
  }),
  column.accessor("hostname", {
    header: "Name",
    sortFn: byText,
    cell: ({ row: { original: row } }) => (
      <Link to={paths.machine(row.id)} data-row>
        {row.hostname || <code>{row.id}</code>}
      </Link>
    ),
  }),
  column.accessor("cluster", {
    header: "Cluster",
    sortFn: byText,
    cell: ({ row: { original: row } }) =>
      row.cluster ? <Link to={paths.cluster(row.cluster)}>{row.cluster}</Link> : <span className="sub">available</span>,
  }),
  column.accessor("talos", { header: "Talos", sortFn: byText }),
  column.accessor("hardware", { header: "Hardware", sortFn: byText }),
  column.accessor("address", { header: "Address", sortFn: byText, cell: (cell) => <code>{cell.getValue()}</code> }),
  column.accessor("joined", { header: "Joined", sortFn: byText, cell: (cell) => <Ago at={cell.getValue()} /> }),
]);
/** What needs a larger screen, and what a very large one. */
const lessOf = (id: string) =>
  id === "address" ? "least" : ["talos", "hardware", "joined"].includes(id) ? "less" : undefined;

/** All machines, live; only the rows in sight are drawn, so that ten thousand are as quick as ten. */
export function MachinesPage() {
  const { rows, loading } = useMachineRows();
  const { q = "", sort = "hostname" } = useSearch({ from: "/frame/machines" });
  const navigate = useNavigate();
  const show = (q: string, sort: string) =>
    navigate({
      to: paths.machines,
      search: { ...(q ? { q } : {}), ...(sort === "hostname" ? {} : { sort }) },
      replace: true,
    });
  const sorting = useMemo(() => sortingOf(sort), [sort]);
  const data = useMemo(() => matching([...rows.values()], q), [rows, q]);
  const connected = [...rows.values()].filter((row) => row.connected).length;

  const table = useTable({
    features,
    columns,
    data,
    getRowId: (row) => row.id,
    enableSortingRemoval: false,
    sortDescFirst: false,
    state: { sorting },
    onSortingChange: (change) => {
      const [by] = typeof change === "function" ? change(sorting) : change;
      void show(q, by ? `${by.desc ? "-" : ""}${by.id}` : "hostname");
    },
  });
  const shown = table.getRowModel().rows;
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
          onChange={({ target }) => show(target.value, sort)}
        />
      </Head>
      <div className="card scroll" ref={scroll}>
        <table className="table" aria-busy={loading} aria-rowcount={shown.length + 1}>
          <thead>
            <tr aria-rowindex={1}>
              {table.getFlatHeaders().map((header) => {
                const sorted = header.column.getIsSorted();
                return (
                  <th
                    key={header.id}
                    scope="col"
                    className={lessOf(header.column.id)}
                    aria-sort={sorted ? (sorted === "desc" ? "descending" : "ascending") : undefined}
                  >
                    <button type="button" onClick={header.column.getToggleSortingHandler()}>
                      <table.FlexRender header={header} />
                      <span aria-hidden="true">{sorted ? (sorted === "desc" ? " ↓" : " ↑") : ""}</span>
                    </button>
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {above > 0 && <tr style={{ height: above }} />}
            {items.map(({ index }) => {
              const row = shown[index];
              if (!row) return null;
              return (
                <tr key={row.id} aria-rowindex={index + 2}>
                  {row.getAllCells().map((cell) => {
                    // The name is what a row is called.
                    const Cell = cell.column.id === "hostname" ? "th" : "td";
                    return (
                      <Cell key={cell.id} className={lessOf(cell.column.id)} scope={Cell === "th" ? "row" : undefined}>
                        <table.FlexRender cell={cell} />
                      </Cell>
                    );
                  })}
                </tr>
              );
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

/** Which column an address asks for, `-joined` for downwards; by name where it asks for one that is not there. */
function sortingOf(sort: string): SortingState {
  const id = sort.replace("-", "");
  if (!columns.some((column) => "accessorKey" in column && column.accessorKey === id)) return sortingOf("hostname");
  return [{ id, desc: sort !== id }];
}

/** The machines whose row holds every word. */
function matching(rows: MachineRow[], q: string): MachineRow[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  return rows.filter((row) => {
    const text = Object.values(row).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
