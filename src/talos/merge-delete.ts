import { IchorError } from "#lib/errors.ts";
import type { ConfigDocument } from "./document.ts";

/**
 * What `$patch: delete` takes out of a configuration (protocols.md 15.7). All marks of a document act before the rest of it is merged,
 * and each must find something: a patch that deletes what is not there is one that was written for something else.
 */

type Fields = Record<string, unknown>;

/** One mark: the field at `path`, or of the list there the first item with that value in that field. */
export interface Deletion {
  readonly path: readonly string[];
  readonly item?: { readonly key: string; readonly value: unknown };
}

/** Maps whose keys are the user's: a key that is not there is an error, where a field of Talos that is not set is none. */
const free = [
  /^machine\.(sysctls|sysfs|env|nodeLabels|nodeAnnotations|nodeTaints|registries\.(mirrors|config))$/,
  /^cluster\.(extraManifestHeaders|(apiServer|controllerManager|scheduler)\.env)$/,
  /^(EnvironmentConfig\.variables|EthernetConfig\.features)$/,
  /(^|\.)extraArgs$/,
  // Texts of others inside the configuration.
  /^machine\.(baseRuntimeSpecOverrides|kubelet\.(extraConfig|credentialProviderConfig))(\.|$)/,
  /^cluster\.(apiServer\.auditPolicy|scheduler\.config|\w+\.resources\.(requests|limits))(\.|$)/,
];

/** Parts of a configuration that are there also when nothing of them is set: what is deleted in them need not be. */
const always = [
  /^machine\.registries$/,
  /^cluster\.discovery\.registries(\.(kubernetes|service))?$/,
  /^(ResolverConfig\.searchDomains|NetworkRuleConfig\.portSelector|BridgeConfig\.(stp|vlan))$/,
  /^\w+VolumeConfig\.(provisioning(\.diskSelector)?|encryption|mount|filesystem|discovery|volumeSelector)$/,
];

/** Takes a patch document apart: its marks, and what is left to be merged. Nothing is left of a document that is all marks. */
export function takeDeletions(document: ConfigDocument): { deletions: Deletion[]; rest: ConfigDocument | undefined } {
  const deletions: Deletion[] = [];
  const rest = strip(document, [], deletions) as ConfigDocument | undefined;
  return { deletions, rest };
}

/** The value without marks; undefined when it was one, or holds nothing without them. */
function strip(value: unknown, path: readonly string[], deletions: Deletion[]): unknown {
  if (Array.isArray(value)) {
    const kept = value.filter((item) => {
      if (!isMarked(item)) return true;
      deletions.push({ path, item: nameOf(item, path) });
      return false;
    });
    if (kept.length === 0 && value.length > 0) return undefined;
    for (const item of kept) refuseMarks(item, path);
    return kept;
  }
  if (!isFields(value)) return value;
  if (isMarked(value)) {
    deletions.push({ path });
    return undefined;
  }
  const entries = Object.entries(value)
    .map(([key, item]) => [key, strip(item, [...path, key], deletions)] as const)
    .filter(([key, item]) => item !== undefined || value[key] === undefined);
  return entries.length === 0 && Object.keys(value).length > 0 ? undefined : Object.fromEntries(entries);
}

/** The first field beside `$patch` names an item. */
function nameOf(item: Fields, path: readonly string[]): { key: string; value: unknown } {
  const [named] = Object.entries(item).filter(([key]) => key !== "$patch");
  if (!named)
    throw new IchorError(
      "invalid_argument",
      `${path.join(".")}: $patch: delete in a list needs a field that names the item`,
    );
  return { key: named[0], value: named[1] };
}

/** Inside an item of a list no mark has a place: which item it means cannot be told. */
function refuseMarks(value: unknown, path: readonly string[]): void {
  if (isMarked(value))
    throw new IchorError(
      "invalid_argument",
      `${path.join(".")}: $patch: delete cannot be used inside an item of a list: delete the item, and write it anew`,
    );
  if (typeof value === "object" && value !== null) for (const item of Object.values(value)) refuseMarks(item, path);
}

/** Takes one thing out of a document, in place. Throws `invalid_argument` when it is not there. */
export function applyDeletion(document: ConfigDocument, { path, item }: Deletion): void {
  const missing = (what: string) =>
    new IchorError("invalid_argument", `$patch: delete names ${what}, which is not in the configuration`);
  const root = typeof document.kind === "string" ? [document.kind] : [];
  const parents = item ? path : path.slice(0, -1);
  let parent: unknown = document;
  for (const [at, key] of parents.entries()) {
    parent = isFields(parent) && Object.hasOwn(parent, key) ? parent[key] : undefined;
    const name = [...root, ...parents.slice(0, at + 1)].join(".");
    if (parent === undefined && always.some((pattern) => pattern.test(name))) parent = {};
  }
  if (item) {
    const what = `${item.key}: ${String(item.value)} in ${path.join(".")}`;
    if (!Array.isArray(parent)) throw missing(what);
    const at = parent.findIndex((other) => isFields(other) && other[item.key] === item.value);
    if (at === -1) throw missing(what);
    parent.splice(at, 1);
    return;
  }
  const key = path.at(-1);
  if (key === undefined || !isFields(parent)) throw missing(path.join("."));
  const isFree = free.some((pattern) => pattern.test([...root, ...parents].join(".")));
  if (isFree && !Object.hasOwn(parent, key)) throw missing(path.join("."));
  delete parent[key];
}

function isMarked(value: unknown): value is Fields {
  return isFields(value) && value.$patch === "delete";
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
