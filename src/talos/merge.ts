import { isDeepStrictEqual } from "node:util";
import { IchorError } from "#lib/errors.ts";
import { type ConfigDocument, documentId } from "./document.ts";

/**
 * Talos' strategic merge (protocols.md 15.7): documents match by version, kind and name; maps merge, lists append, scalars replace
 * unless they are empty. The exceptions below are fields of the public configuration types.
 */

type Path = readonly string[];
type Fields = Record<string, unknown>;

/** Fields that a patch replaces as a whole. */
const replaced = new Set([
  "cluster.network.podSubnets",
  "cluster.network.serviceSubnets",
  "cluster.apiServer.auditPolicy",
  "NetworkRuleConfig.ingress",
  "NetworkRuleConfig.portSelector.ports",
]);

/** Lists whose items are matched, by what. An item that matches is merged, any other appended. */
const keyed: Readonly<Record<string, (a: Fields, b: Fields) => boolean>> = {
  "machine.network.interfaces": (a, b) =>
    b.interface !== undefined && b.interface !== ""
      ? a.interface === b.interface
      : b.deviceSelector !== undefined && isDeepStrictEqual(a.deviceSelector, b.deviceSelector),
  "machine.network.interfaces.vlans": (a, b) => a.vlanId === b.vlanId,
  "cluster.apiServer.admissionControl": (a, b) => a.name === b.name,
  "ExtensionServiceConfig.configFiles": (a, b) => a.mountPath === b.mountPath,
};

/** Lists whose matching items are replaced. */
const swapped: Readonly<Record<string, (a: Fields, b: Fields) => boolean>> = {
  "ImageVerificationConfig.rules": (a, b) => a.image === b.image,
};

/** Maps of arguments: a patch replaces the value of a key, also where it is a list. */
const argumentMap = /(^|\.)extraArgs$/;

/** Applies a patch to documents; answers new ones. Throws `invalid_argument` where a patch does not fit or deletes what is not there. */
export function mergeDocuments(
  documents: readonly ConfigDocument[],
  patch: readonly ConfigDocument[],
): ConfigDocument[] {
  const result = documents.map((document) => structuredClone(document));
  for (const change of patch) {
    const id = documentId(change);
    const at = result.findIndex((document) => documentId(document) === id);
    if (change.$patch === "delete") {
      if (at === -1)
        throw new IchorError("invalid_argument", `$patch: delete names ${id}, which is not in the configuration`);
      result.splice(at, 1);
    } else if (at === -1) {
      result.push(dropDeletes(structuredClone(change)));
    } else {
      const root: Path = typeof change.kind === "string" ? [change.kind] : [];
      result[at] = mergeMap(result[at] ?? {}, change, root);
    }
  }
  return result;
}

function mergeMap(left: Fields, right: Fields, path: Path): Fields {
  for (const [key, value] of Object.entries(right)) {
    const here = [...path, key];
    if (isMap(value) && value.$patch === "delete") {
      delete left[key];
      continue;
    }
    left[key] = mergeValue(left[key], value, here);
  }
  return left;
}

function mergeValue(left: unknown, right: unknown, path: Path): unknown {
  const name = path.join(".");
  if (right === null || right === undefined) return left;
  if (left === undefined || left === null) return dropDeletes(right);
  if (isMap(left) && isMap(right)) {
    if (replaced.has(name)) return right;
    return argumentMap.test(name) ? { ...left, ...right } : mergeMap(left, right, path);
  }
  if (Array.isArray(left) && Array.isArray(right)) return mergeList(left, right, path, name);
  if (isMap(left) !== isMap(right) || Array.isArray(left) !== Array.isArray(right)) {
    throw new IchorError(
      "invalid_argument",
      `${name}: the patch has ${shape(right)} where the configuration has ${shape(left)}`,
    );
  }
  // An empty text is the absence of a value.
  return right === "" ? left : right;
}

function mergeList(left: unknown[], right: unknown[], path: Path, name: string): unknown[] {
  if (replaced.has(name)) return right;
  const same = keyed[name];
  const swap = swapped[name];
  for (const item of right) {
    if (isMap(item) && item.$patch === "delete") {
      deleteItem(left, item, name);
      continue;
    }
    const matcher = same ?? swap;
    const at = matcher && isMap(item) ? left.findIndex((other) => isMap(other) && matcher(other, item)) : -1;
    const existing = at === -1 ? undefined : left[at];
    if (!isMap(existing) || !isMap(item)) left.push(dropDeletes(item));
    else left[at] = same ? mergeMap(existing, item, path) : item;
  }
  return left;
}

/** The first field beside `$patch` names the item. */
function deleteItem(list: unknown[], item: Fields, name: string): void {
  const [selector] = Object.entries(item).filter(([key]) => key !== "$patch");
  if (!selector)
    throw new IchorError("invalid_argument", `${name}: $patch: delete in a list needs a field that names the item`);
  const [key, value] = selector;
  const at = list.findIndex((other) => isMap(other) && other[key] === value);
  if (at === -1)
    throw new IchorError(
      "invalid_argument",
      `${name}: $patch: delete names ${key}: ${String(value)}, which is not in the list`,
    );
  list.splice(at, 1);
}

/** What is new holds nothing to delete: such marks vanish. */
function dropDeletes(value: unknown): never {
  if (Array.isArray(value))
    return value.filter((item) => !(isMap(item) && item.$patch === "delete")).map(dropDeletes) as never;
  if (!isMap(value)) return value as never;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => !(isMap(item) && item.$patch === "delete"))
      .map(([key, item]) => [key, dropDeletes(item)]),
  ) as never;
}

function isMap(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shape(value: unknown): string {
  return Array.isArray(value) ? "a list" : isMap(value) ? "a mapping" : "a value";
}
