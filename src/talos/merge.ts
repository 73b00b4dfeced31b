import { isDeepStrictEqual } from "node:util";
import { IchorError } from "#lib/errors.ts";
import { type ConfigDocument, documentId, isMain } from "./document.ts";
import { applyDeletion, takeDeletions } from "./merge-delete.ts";

/**
 * Talos' strategic merge (protocols.md 15.7): documents match by version, kind and name; maps merge, lists append, scalars replace
 * unless they are empty. The exceptions below are fields of the public configuration types. Measured against stock talosctl by
 * test/interop/machine-config.test.ts.
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

/** Lists whose matching items are replaced; items of one patch do not match one another. */
const swapped: Readonly<Record<string, (a: Fields, b: Fields) => boolean>> = {
  "ImageVerificationConfig.rules": (a, b) => a.image === b.image,
};

/** Numbers whose zero is a value; that of all others is the absence of one. */
const zeroes =
  /^(EthernetConfig\.(rings|channels)\.|BondConfig\.(?!mtu$)|KubeSpanConfig\.mtu$|machine\.network\.kubespan\.mtu$|ZswapConfig\.maxPoolPercent$)/;

/** Maps of arguments: a patch replaces the value of a key, also where it is a list. */
const argumentMap = /(^|\.)extraArgs$/;

/** Applies a patch to documents; answers new ones. Throws `invalid_argument` where a patch does not fit or deletes what is not there. */
export function mergeDocuments(
  documents: readonly ConfigDocument[],
  patch: readonly ConfigDocument[],
): ConfigDocument[] {
  const result = documents.map((document) => structuredClone(document));
  // What a patch adds is not there yet for what else it holds.
  const before = new Set(result);
  const seen = new Set<string>();
  for (const change of patch) {
    const id = documentId(change);
    const at = result.findIndex((document) => before.has(document) && documentId(document) === id);
    const existing = result[at];
    if (change.$patch === "delete") {
      if (!existing)
        throw new IchorError("invalid_argument", `$patch: delete names ${id}, which is not in the configuration`);
      if (isMain(change)) throw new IchorError("invalid_argument", "the main document cannot be deleted");
      result.splice(at, 1);
      continue;
    }
    const { deletions, rest } = takeDeletions(structuredClone(change));
    for (const deletion of deletions) {
      if (!existing)
        throw new IchorError("invalid_argument", `$patch: delete in ${id}, which is not in the configuration`);
      applyDeletion(existing, deletion);
    }
    if (!rest) continue;
    if (seen.has(id)) throw new IchorError("invalid_argument", `the patch has ${id} twice`);
    seen.add(id);
    const root: Path = typeof change.kind === "string" ? [change.kind] : [];
    if (existing) mergeMap(existing, rest, root);
    else result.push(rest);
  }
  return result;
}

function mergeMap(left: Fields, right: Fields, path: Path): Fields {
  for (const [key, value] of Object.entries(right)) {
    // Any text may be a key: `__proto__` is one like others, and no way to what all objects share.
    const before = Object.hasOwn(left, key) ? left[key] : undefined;
    const merged = mergeValue(before, value, [...path, key]);
    Object.defineProperty(left, key, { value: merged, writable: true, enumerable: true, configurable: true });
  }
  return left;
}

function mergeValue(left: unknown, right: unknown, path: Path): unknown {
  const name = path.join(".");
  if (right === null || right === undefined) return left;
  if (left === undefined || left === null) {
    // Items of one patch merge among themselves.
    return Array.isArray(right) && keyed[name] ? mergeList([], right, path, name) : right;
  }
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
  // An empty text is the absence of a value, and so is zero but where it is told from none.
  return right === "" || (right === 0 && !zeroes.test(name)) ? left : right;
}

function mergeList(left: unknown[], right: unknown[], path: Path, name: string): unknown[] {
  if (replaced.has(name)) return right;
  const before = left.length;
  const same = keyed[name];
  const swap = swapped[name];
  for (const item of right) {
    const at = !isMap(item)
      ? -1
      : same
        ? left.findIndex((other) => isMap(other) && same(other, item))
        : left.findLastIndex((other, index) => swap && index < before && isMap(other) && swap(other, item));
    const existing = at === -1 ? undefined : left[at];
    if (!isMap(existing) || !isMap(item)) left.push(item);
    else left[at] = same ? mergeMap(existing, item, path) : item;
  }
  return left;
}

function isMap(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shape(value: unknown): string {
  return Array.isArray(value) ? "a list" : isMap(value) ? "a mapping" : "a value";
}
