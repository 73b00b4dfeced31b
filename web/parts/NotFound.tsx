import { Link } from "@tanstack/react-router";
import { paths } from "../paths.ts";
import { useTitle } from "./Head.tsx";

/** Says that an address leads nowhere, and the way back. */
export function NotFound({ what, list = paths.machines }: { what: string; list?: string }) {
  useTitle(`No such ${what}`);
  return (
    <div className="card empty">
      <h1>There is no such {what}</h1>
      <span>It may have been removed since this address was written down, or was never there.</span>
      <Link to={list} className="button">
        To the {list === paths.clusters ? "clusters" : "machines"}
      </Link>
    </div>
  );
}
