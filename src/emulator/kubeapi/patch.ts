import { badRequest, invalid } from "./status.ts";

type Json = unknown;
type Dictionary = Record<string, Json>;

function isObject(value: Json): value is Dictionary {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** RFC 7386. */
export function mergePatch(target: Json, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const out: Dictionary = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key];
    else setOwn(out, key, mergePatch(ownValue(out, key), value));
  }
  return out;
}

/** RFC 6902. Throws a KubeError. */
export function jsonPatch(target: Json, patch: Json): Json {
  if (!Array.isArray(patch) || patch.length > 10_000) throw badRequest("json patch must be a list of operations");
  let document = structuredClone(target);
  for (const item of patch) {
    if (!isObject(item) || typeof item.path !== "string") throw badRequest("malformed json patch operation");
    const { op, path } = item;
    if (op === "test") {
      if (JSON.stringify(getPointer(document, path)) !== JSON.stringify(item.value))
        throw invalid(`testing path ${path} failed`);
    } else if (op === "remove") document = change(document, path, "remove", undefined);
    else if (op === "add" || op === "replace") document = change(document, path, op, structuredClone(item.value));
    else if ((op === "move" || op === "copy") && typeof item.from === "string") {
      const value = structuredClone(getPointer(document, item.from));
      if (op === "move") document = change(document, item.from, "remove", undefined);
      document = change(document, path, "add", value);
    } else throw badRequest(`unsupported json patch operation ${String(op)}`);
  }
  return document;
}

/** Which key names the items of a list that is merged, by the field's name. */
const mergeKeys: Record<string, readonly string[]> = {
  containers: ["name"],
  initContainers: ["name"],
  ephemeralContainers: ["name"],
  volumes: ["name"],
  env: ["name"],
  volumeMounts: ["mountPath"],
  volumeDevices: ["devicePath"],
  imagePullSecrets: ["name"],
  hostAliases: ["ip"],
  tolerations: [],
  ports: ["containerPort", "port"],
  ownerReferences: ["uid"],
  conditions: ["type"],
  addresses: ["type"],
  taints: ["key"],
  secrets: ["name"],
  topologySpreadConstraints: ["topologyKey"],
  webhooks: ["name"],
};

/** Strategic merge with the merge keys of the built-in types, by field name. */
export function strategicMerge(target: Json, patch: Json, field = ""): Json {
  if (Array.isArray(patch)) return mergeLists(Array.isArray(target) ? target : [], patch, field);
  if (!isObject(patch)) return patch;
  if (patch.$patch === "replace") {
    const { $patch: _, ...rest } = patch;
    return rest;
  }
  if (patch.$patch === "delete") return undefined;
  const out: Dictionary = isObject(target) ? { ...target } : {};
  if (Array.isArray(patch.$retainKeys))
    for (const key of Object.keys(out)) if (!patch.$retainKeys.includes(key)) delete out[key];
  for (const [key, value] of Object.entries(patch)) {
    if (key === "$retainKeys" || key === "$patch" || key.startsWith("$setElementOrder/")) continue;
    const list = key.startsWith("$deleteFromPrimitiveList/")
      ? key.slice("$deleteFromPrimitiveList/".length)
      : undefined;
    if (list !== undefined) {
      const old = out[list];
      if (Array.isArray(old) && Array.isArray(value)) out[list] = old.filter((item) => !value.includes(item));
    } else if (value === null) delete out[key];
    else {
      const next = strategicMerge(ownValue(out, key), value, key);
      if (next === undefined) delete out[key];
      else setOwn(out, key, next);
    }
  }
  return out;
}

/**
 * Server-side apply, simply: the applied fields win, keyed lists are merged by their key, and fields that the manager applied last time
 * and no longer does are removed.
 */
export function applyPatch(target: Json, applied: Json, previous: Json): Json {
  return strategicMerge(withoutAbandoned(target, applied, previous, ""), applied);
}

function withoutAbandoned(target: Json, applied: Json, previous: Json, field: string): Json {
  if (isObject(target) && isObject(previous)) {
    const out: Dictionary = {};
    for (const [key, value] of Object.entries(target)) {
      const now = isObject(applied) ? ownValue(applied, key) : undefined;
      if (now === undefined && Object.hasOwn(previous, key)) {
        // The whole of it was the manager's only where it is not a container of other fields.
        const rest =
          isObject(value) && isObject(previous[key]) ? withoutAbandoned(value, {}, previous[key], key) : undefined;
        if (isObject(rest) && Object.keys(rest).length > 0) setOwn(out, key, rest);
      } else setOwn(out, key, withoutAbandoned(value, now, ownValue(previous, key), key));
    }
    return out;
  }
  if (Array.isArray(target) && Array.isArray(previous)) {
    const key = mergeKeyOf(field, target);
    const names = (list: Json) =>
      new Set(
        (Array.isArray(list) ? list : []).map((item) => (key && isObject(item) ? item[key] : JSON.stringify(item))),
      );
    const before = names(previous);
    const now = names(applied);
    return target.filter((item) => {
      const name = key && isObject(item) ? item[key] : JSON.stringify(item);
      return !before.has(name) || now.has(name);
    });
  }
  return target;
}

function mergeLists(target: readonly Json[], patch: readonly Json[], field: string): Json[] {
  const key = mergeKeyOf(field, patch.length > 0 ? patch : target);
  if (patch.some((item) => isObject(item) && item.$patch === "replace"))
    return patch.filter((item) => !(isObject(item) && item.$patch === "replace"));
  if (key === undefined) return field === "finalizers" ? [...new Set([...target, ...patch])] : [...patch];
  const out = [...target];
  for (const item of patch) {
    if (!isObject(item)) continue;
    const at = out.findIndex((old) => isObject(old) && old[key] === item[key]);
    if (item.$patch === "delete") {
      if (at >= 0) out.splice(at, 1);
    } else if (at >= 0) out[at] = strategicMerge(out[at], item);
    else out.push(strategicMerge({}, item));
  }
  return out;
}

/** The key that names the items of a list that is merged; undefined for lists that are one value. */
export function mergeKeyOf(field: string, list: readonly Json[]): string | undefined {
  return (Object.hasOwn(mergeKeys, field) ? mergeKeys[field] : undefined)?.find((key) =>
    list.some((item) => isObject(item) && Object.hasOwn(item, key)),
  );
}

function tokens(path: string): string[] {
  if (path === "") return [];
  if (!path.startsWith("/")) throw badRequest(`malformed json pointer ${path}`);
  return path
    .slice(1)
    .split("/")
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function getPointer(document: Json, path: string): Json {
  let value = document;
  for (const token of tokens(path)) {
    if (Array.isArray(value)) value = value[Number(token)];
    else if (isObject(value) && Object.hasOwn(value, token)) value = value[token];
    else throw invalid(`path ${path} does not exist`);
  }
  return value;
}

function change(document: Json, path: string, op: "add" | "replace" | "remove", value: Json): Json {
  const parts = tokens(path);
  const last = parts.pop();
  if (last === undefined) return op === "remove" ? null : value;
  const parent = getPointer(
    document,
    parts.map((part) => `/${part.replaceAll("~", "~0").replaceAll("/", "~1")}`).join(""),
  );
  if (Array.isArray(parent)) {
    const at = last === "-" ? parent.length : Number(last);
    if (!Number.isInteger(at) || at < 0 || at > parent.length || (op !== "add" && at >= parent.length))
      throw invalid(`path ${path} does not exist`);
    if (op === "add") parent.splice(at, 0, value);
    else if (op === "remove") parent.splice(at, 1);
    else parent[at] = value;
  } else if (isObject(parent)) {
    if (op !== "add" && !Object.hasOwn(parent, last)) throw invalid(`path ${path} does not exist`);
    if (op === "remove") delete parent[last];
    else setOwn(parent, last, value);
  } else throw invalid(`path ${path} does not exist`);
  return document;
}

function ownValue(target: Dictionary, key: string): Json {
  return Object.hasOwn(target, key) ? target[key] : undefined;
}

/** Sets a key that came from outside: `__proto__` becomes an ordinary one. */
function setOwn(target: Dictionary, key: string, value: Json): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true });
}
