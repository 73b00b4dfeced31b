import { parseAllDocuments } from "yaml";
import { IchorError, messageOf } from "#lib/errors.ts";
import { clusterKeys, kinds, machineKeys, topKeys } from "./known.ts";

/** A YAML mapping. */
export type Mapping = { readonly [key: string]: unknown };

/** One document of a configuration: the main one has kind "v1alpha1". */
export interface Document {
  readonly kind: string;
  readonly name: string;
  readonly body: Mapping;
}

const sizeLimit = 4 << 20;

/** Splits a configuration into documents. Throws `invalid_argument` for what Talos cannot decode. */
export function parseDocuments(bytes: Uint8Array): Document[] {
  if (bytes.length > sizeLimit) refuse("machine configuration is larger than 4 MiB");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    refuse("yaml: invalid UTF-8");
  }
  const documents: Document[] = [];
  for (const parsed of parseYaml(text)) {
    const [error] = parsed.errors;
    if (error) refuse(`yaml: line ${error.linePos?.[0].line ?? 0}: ${error.message.split("\n")[0]}`);
    const body = toValue(parsed);
    if (body === null || body === undefined) continue;
    if (!isMapping(body)) refuse("yaml: document is not a mapping");
    documents.push(identify(body));
  }
  if (documents.length === 0) refuse("no configuration documents found");
  const seen = new Set<string>();
  for (const { kind, name } of documents) {
    const id = `${kind}/${name}`;
    if (seen.has(id))
      refuse(
        kind === "v1alpha1" ? "not allowed: v1alpha1 document is repeated" : `not allowed: document ${id} is repeated`,
      );
    seen.add(id);
  }
  return documents;
}

/** A mapping, not a list or a scalar. */
export function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value at a dotted path, undefined where it ends early. */
export function at(body: unknown, path: string): unknown {
  let value = body;
  for (const key of path.split(".")) value = isMapping(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  return value;
}

/** The text at a path, "" when absent or something else. */
export function textAt(body: unknown, path: string): string {
  const value = at(body, path);
  return typeof value === "string" ? value : "";
}

/** The texts of the list at a path. */
export function textsAt(body: unknown, path: string): string[] {
  const value = at(body, path);
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** A scalar as text; "" for anything else. */
export function scalarText(value: unknown): string {
  return ["string", "number", "boolean"].includes(typeof value) ? String(value) : "";
}

function parseYaml(text: string): ReturnType<typeof parseAllDocuments> {
  try {
    return parseAllDocuments(text);
  } catch {
    // The parser reports errors with their place; it throws only where nesting exhausts its stack.
    refuse("yaml: nested too deeply");
  }
}

function toValue(parsed: { toJS(options: { maxAliasCount: number }): unknown }): unknown {
  try {
    return parsed.toJS({ maxAliasCount: 100 });
  } catch (error) {
    refuse(`yaml: ${messageOf(error)}`);
  }
}

function identify(body: Mapping): Document {
  if ("kind" in body || "apiVersion" in body) {
    const kind = body.kind;
    if (typeof kind !== "string" || kind === "") refuse("missing kind");
    if (body.apiVersion !== "v1alpha1") refuse(`"${kind}" "${scalarText(body.apiVersion)}": not registered`);
    if (!kinds.has(kind)) refuse(`"${kind}" "v1alpha1": not registered`);
    return { kind, name: typeof body.name === "string" ? body.name : "", body };
  }
  if (!("version" in body) && !("machine" in body) && !("cluster" in body)) refuse("missing kind");
  if (body.version !== "v1alpha1") refuse(`"" "${scalarText(body.version)}": not registered`);
  const unknown = [
    ...unknownKeys("", body, topKeys),
    ...unknownKeys("machine.", body.machine, machineKeys),
    ...unknownKeys("cluster.", body.cluster, clusterKeys),
  ];
  if (unknown.length > 0) refuse(`unknown keys found during decoding:\n${unknown.join("\n")}`);
  return { kind: "v1alpha1", name: "", body };
}

function unknownKeys(prefix: string, body: unknown, known: ReadonlySet<string>): string[] {
  if (body === undefined || body === null) return [];
  if (!isMapping(body)) refuse(`yaml: cannot unmarshal ${prefix.slice(0, -1)} into a mapping`);
  return Object.keys(body)
    .filter((key) => !known.has(key))
    .map((key) => `${prefix}${key}`);
}

function refuse(message: string): never {
  throw new IchorError("invalid_argument", message);
}
