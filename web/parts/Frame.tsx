import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { ControllerStatusKind } from "#kinds/access/controller-status.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { session } from "../api.ts";
import { paths } from "../paths.ts";
import { moveAmongRows } from "../ui/rows.ts";
import { useWatch } from "../watch.ts";

/** Navigation around every page: live counts, keys, and a word when the plane cannot be reached. */
export function Frame() {
  const machines = useWatch(MachineKind);
  const clusters = useWatch(ClusterKind);
  const controllers = useWatch(ControllerStatusKind);
  const failing = [...controllers.items.values()].filter(({ spec }) => spec.failing.length > 0).length;
  const trouble = machines.error ?? clusters.error ?? controllers.error;
  const main = useRef<HTMLElement>(null);
  useKeys();
  useFocusOnChange(main);

  return (
    <div className="frame">
      <button type="button" className="skip" onClick={() => main.current?.focus()}>
        Skip to content
      </button>
      <nav className="side" aria-label="Main">
        <Link to={paths.machines} className="brand">
          <img src="/icon.svg" alt="" /> Ichor
        </Link>
        <NavItem to={paths.machines} text="Machines" count={machines.items.size} />
        <NavItem to={paths.clusters} text="Clusters" count={clusters.items.size} />
        <NavItem to={paths.join} text="Join a machine" />
        <NavItem
          to={paths.plane}
          text="Plane"
          {...(failing ? { count: failing, title: `${failing} controllers fail` } : {})}
        />
        <div className="rest">
          <span className="keys">
            <kbd>g m</kbd> machines, <kbd>g c</kbd> clusters, <kbd>/</kbd> search, <kbd>↑</kbd> <kbd>↓</kbd> rows
          </span>
          <Person />
        </div>
      </nav>
      <main className="main" ref={main} tabIndex={-1}>
        <div role="status">
          {trouble && (
            <div className="banner">
              {trouble}. What you see is the last known; it goes on by itself when the connection is back.
            </div>
          )}
        </div>
        <Outlet />
      </main>
    </div>
  );
}

function Person() {
  const { data } = useQuery({ queryKey: ["who"], queryFn: ({ signal }) => session.whoAmI({}, { signal }) });
  const signOut = async () => {
    // A session that is over already is as good as ended.
    await session.signOut({}).catch(() => undefined);
    location.assign(paths.signin);
  };
  return (
    <>
      {data && (
        <span className="identity" title={`${data.identity}, ${data.role}`}>
          {data.identity}
        </span>
      )}
      <button type="button" onClick={signOut}>
        Sign out
      </button>
    </>
  );
}

function NavItem({ to, text, count, title }: { to: string; text: string; count?: number; title?: string }) {
  return (
    <Link to={to} className="nav" activeProps={{ className: "active", "aria-current": "page" }} title={title}>
      <span>{text}</span>
      {count !== undefined && <span>{count}</span>}
    </Link>
  );
}

/** After going to another page, keys and screen readers begin at its top; not on the first page, where the browser does that. */
function useFocusOnChange(main: React.RefObject<HTMLElement | null>) {
  const { pathname } = useLocation();
  const before = useRef(pathname);
  useEffect(() => {
    if (before.current !== pathname) main.current?.focus();
    before.current = pathname;
  }, [pathname, main]);
}

/** `g m`, `g c`, `g j`, `g p` go places; `/` puts the cursor into the search, not while typing; arrows move among rows. */
function useKeys() {
  const navigate = useNavigate();
  useEffect(() => {
    let before = "";
    const onKey = (event: KeyboardEvent) => {
      if (moveAmongRows(event)) return;
      const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
      if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
      const places: Record<string, string> = { m: paths.machines, c: paths.clusters, j: paths.join, p: paths.plane };
      const place = before === "g" ? places[event.key] : undefined;
      if (place) void navigate({ to: place });
      if (event.key === "/") {
        event.preventDefault();
        document.querySelector<HTMLInputElement>('input[type="search"]')?.focus();
      }
      before = event.key;
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [navigate]);
}
