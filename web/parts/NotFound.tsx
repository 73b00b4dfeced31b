import { Link } from "@tanstack/react-router";
import { paths } from "../paths.ts";

/** Says that an address leads nowhere, and the way back. */
export function NotFound({ what }: { what: string }) {
  return (
    <div className="empty">
      <strong>There is no such {what}.</strong>
      <span>It may have been removed since this address was written down.</span>
      <Link to={paths.machines}>To the machines</Link>
    </div>
  );
}
