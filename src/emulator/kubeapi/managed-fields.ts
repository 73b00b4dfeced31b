import { mergeKeyOf } from "./patch.ts";

type Fields = { [path: string]: Fields };
type Dictionary = Record<string, unknown>;
const isObject = (value: unknown): value is Dictionary =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** One entry of `metadata.managedFields`. */
export interface ManagedFields {
  readonly manager: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly time: string;
  readonly fieldsType: "FieldsV1";
  readonly fieldsV1: Fields;
}

/** The fields that an applied object sets, in FieldsV1's form: `f:` fields, `k:` items of keyed lists. Other lists are one field. */
export function fieldsOf(applied: Dictionary): Fields {
  const { apiVersion: _, kind: __, metadata, ...rest } = applied;
  const { name: ___, namespace: ____, managedFields: _____, ...own } = isObject(metadata) ? metadata : {};
  const fields = walk(rest, "");
  return Object.keys(own).length > 0 ? { "f:metadata": walk(own, ""), ...fields } : fields;
}

function walk(value: unknown, field: string): Fields {
  const out: Fields = {};
  if (isObject(value)) for (const [key, item] of Object.entries(value)) out[`f:${key}`] = walk(item, key);
  else if (Array.isArray(value)) {
    const key = mergeKeyOf(field, value);
    if (key === undefined) return out;
    for (const item of value)
      if (isObject(item)) out[`k:${JSON.stringify({ [key]: item[key] })}`] = { ".": {}, ...walk(item, "") };
  }
  return out;
}

/** An object with the fields of FieldsV1 and no values: what the manager applied, as far as it matters for taking it away. */
export function skeletonOf(fields: unknown): unknown {
  if (!isObject(fields)) return true;
  const keys = Object.keys(fields).filter((key) => key !== ".");
  if (keys.length === 0) return true;
  if (keys.some((key) => key.startsWith("k:"))) {
    return keys.flatMap((key) => {
      const rest = skeletonOf(fields[key]);
      return key.startsWith("k:") ? [{ ...(isObject(rest) ? rest : {}), ...parse(key.slice(2)) }] : [];
    });
  }
  return Object.fromEntries(
    keys.filter((key) => key.startsWith("f:")).map((key) => [key.slice(2), skeletonOf(fields[key])]),
  );
}

function parse(json: string): Dictionary {
  try {
    const value: unknown = JSON.parse(json);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}
