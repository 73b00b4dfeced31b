import { IchorError } from "#lib/errors.ts";
import { parseVersion } from "./version.ts";

/** A minor of Talos: what it runs and what it may come from (protocols.md 13.1). */
interface Minor {
  /** Kubernetes minors, inclusive. */
  readonly kubernetes: readonly [least: number, most: number];
  /** Talos versions that may be upgraded to it, from this minor on. */
  readonly upgradeFrom: number;
  readonly defaultKubernetes: string;
  readonly latest: string;
}

const minors: Readonly<Record<number, Minor>> = {
  11: { kubernetes: [29, 34], upgradeFrom: 9, defaultKubernetes: "1.34.1", latest: "1.11.6" },
  12: { kubernetes: [30, 35], upgradeFrom: 10, defaultKubernetes: "1.35.4", latest: "1.12.11" },
  13: { kubernetes: [31, 36], upgradeFrom: 11, defaultKubernetes: "1.36.3", latest: "1.13.9" },
};

/** Talos minors that the plane generates configurations for. */
export const supportedTalos: readonly string[] = Object.keys(minors).map((minor) => `1.${minor}`);

/** Why a Talos and a Kubernetes version do not go together, or are not supported; undefined when they do. */
export function incompatible(talos: string, kubernetes: string): string | undefined {
  const t = parseVersion(talos);
  const k = parseVersion(kubernetes);
  const known = t.major === 1 ? minors[t.minor] : undefined;
  if (!known) return `Talos ${talos} is not supported by this plane; it supports ${supportedTalos.join(", ")}`;
  const [least, most] = known.kubernetes;
  if (k.major === 1 && k.minor >= least && k.minor <= most) return undefined;
  return `Talos 1.${t.minor} runs Kubernetes 1.${least} to 1.${most}, not ${kubernetes.replace(/^v/, "")}`;
}

/** Versions that may be chosen: the first release of each minor with its fixes, and the Kubernetes versions of each. */
export function knownVersions(): { talos: string; kubernetes: string[] }[] {
  return Object.entries(minors).flatMap(([minor, { kubernetes, defaultKubernetes, latest }]) => {
    const versions = Array.from(
      { length: kubernetes[1] - kubernetes[0] },
      (_, index) => `1.${kubernetes[0] + index}.0`,
    );
    return [...new Set([`1.${minor}.0`, latest])].map((talos) => ({
      talos,
      kubernetes: [...versions, `1.${kubernetes[1]}.0`, defaultKubernetes],
    }));
  });
}

/** The version of configuration to generate for a Talos version: `1.13`. Throws `unimplemented` for minors that are not known. */
export function contractOf(talos: string): `1.${number}` {
  const { major, minor } = parseVersion(talos);
  if (major !== 1 || !minors[minor]) {
    throw new IchorError(
      "unimplemented",
      `configurations for Talos ${talos} are not generated yet; supported are ${supportedTalos.join(", ")}`,
    );
  }
  return `1.${minor}`;
}
