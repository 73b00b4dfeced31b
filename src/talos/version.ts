import { IchorError } from "#lib/errors.ts";

/** A version of Talos or Kubernetes. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** Text after the dash; empty for releases. */
  readonly pre: string;
}

/** Reads `1.13.0`, `v1.13.0`, `v1.14.0-rc.1`. Throws `invalid_argument`. */
export function parseVersion(text: string): Version {
  const match = /^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:-([0-9A-Za-z.-]{1,64}))?$/.exec(text);
  if (!match) throw new IchorError("invalid_argument", `"${text.slice(0, 64)}" is not a version such as v1.13.0`);
  return { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]), pre: match[4] ?? "" };
}

/** Whether `text` is at least major.minor; pre-releases of that minor count. */
export function atLeast(text: string, major: number, minor: number): boolean {
  const version = parseVersion(text);
  return version.major > major || (version.major === major && version.minor >= minor);
}
