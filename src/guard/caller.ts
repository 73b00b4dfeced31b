import { IchorError } from "#lib/errors.ts";
import { type Role, roles } from "#resource/kind.ts";

/** Who calls, as the edge found out. */
export interface Caller {
  /** A name for people and logs, such as `admin`. */
  readonly identity: string;
  readonly role: Role;
  /** Id of the session that it came with (SHA-256 of the token, hex). */
  readonly session: string;
  /** When that ends, milliseconds since the Unix epoch. */
  readonly expires: number;
}

/** Whether a role may do what another may. */
export function atLeast(role: Role, least: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(least);
}

/** A role by its name. Throws `invalid_argument`. */
export function readRole(name: string): Role {
  const role = roles.find((known) => known === name);
  if (!role) throw new IchorError("invalid_argument", `there is no role "${name}"; there are ${roles.join(", ")}`);
  return role;
}
