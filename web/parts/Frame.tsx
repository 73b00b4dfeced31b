import { Link, Outlet, useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { ControllerStatusKind } from "#kinds/access/controller-status.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { session } from "../api.ts";
import { paths } from "../paths.ts";
import { useWatch } from "../watch.ts";

/** Navigation around every page: live counts, keys, and a word when the plane cannot be reached. */
export function Frame() {
  const machines = useWatch(MachineKind);
  const clusters = useWatch(ClusterKind);
  const controllers = useWatch(ControllerStatusKind);
  const failing = [...controllers.items.values()].filter(({ spec }) => spec.failing.length > 0).length;
  useKeys();

  const signOut = async () => {
    await session.signOut({});
    location.assign(paths.signin);
  };

  return (
    <div className="frame">
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
          <span>
            Keys: <kbd>g m</kbd> machines, <kbd>g c</kbd> clusters, <kbd>/</kbd> search
          </span>
          <button type="button" onClick={signOut}>
            Sign out
          </button>
        </div>
      </nav>
      <main className="main">
        {machines.status === "stale" && (
          <div className="banner" role="status">
            The plane cannot be reached ({machines.error}). What you see is the last known; it goes on by itself when
            the connection is back.
          </div>
        )}
        <Outlet />
      </main>
    </div>
  );
}

function NavItem({ to, text, count, title }: { to: string; text: string; count?: number; title?: string }) {
  return (
    <Link to={to} className="nav" activeProps={{ className: "nav active", "aria-current": "page" }} title={title}>
      <span>{text}</span>
      {count !== undefined && <span>{count}</span>}
    </Link>
  );
}

/** `g m`, `g c`, `g j`, `g p` go places; `/` puts the cursor into the search. Not while typing. */
function useKeys() {
  const navigate = useNavigate();
  useEffect(() => {
    let before = "";
    const onKey = (event: KeyboardEvent) => {
      if (event.target instanceof HTMLInputElement || event.metaKey || event.ctrlKey || event.altKey) return;
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
