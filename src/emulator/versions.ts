import { IchorError } from "#lib/errors.ts";

/** What comes with a Talos release (protocols.md 13.1). */
export interface Release {
  /** Tag, `v1.13.9`. */
  readonly tag: string;
  readonly minor: number;
  readonly kubernetes: string;
  readonly etcd: string;
  readonly kernel: string;
  readonly containerd: string;
}

const known: Record<number, Omit<Release, "tag" | "minor">> = {
  11: { kubernetes: "1.34.1", etcd: "3.6.5", kernel: "6.12.57-talos", containerd: "2.1.5" },
  12: { kubernetes: "1.35.4", etcd: "3.6.11", kernel: "6.18.22-talos", containerd: "2.1.6" },
  13: { kubernetes: "1.36.3", etcd: "3.6.12", kernel: "6.18.38-talos", containerd: "2.2.2" },
  14: { kubernetes: "1.37.0", etcd: "3.7.1", kernel: "6.24.4-talos", containerd: "2.3.0" },
};

/** The release of a version text, with or without `v`. Throws `invalid_argument` outside 1.11 to 1.14. */
export function release(version: string): Release {
  const match = /^v?1\.(\d+)\.\d+(?:-[0-9A-Za-z.]+)?$/.exec(version);
  const minor = Number(match?.[1]);
  const details = known[minor];
  if (!match || !details)
    throw new IchorError("invalid_argument", `"${version}" is not a Talos version from 1.11.0 to 1.14.x`);
  return { tag: version.startsWith("v") ? version : `v${version}`, minor, ...details };
}

/** The release that machines run unless told otherwise. */
export const defaultTalosVersion = "v1.13.9";
