import { type Document, isMap, isNode, isPair, isScalar, LineCounter, type Node, parseAllDocuments } from "yaml";
import type { z } from "zod";
import { nearest, type Problem } from "./problem.ts";
import {
  type ClusterDocument,
  type ControlPlaneDocument,
  documentSchemas,
  type MachineDocument,
  type WorkersDocument,
} from "./schema.ts";

/** A path into a document: keys and indexes. */
export type Path = readonly (string | number)[];

/** A document of a template with the way back to its text. */
export interface Positioned<T> {
  readonly value: T;
  /** A problem at a field of this document; the nearest enclosing field that exists gives the position. */
  problem(path: Path, message: string, fix?: string): Problem;
}

/** A template, read: shapes hold, rules across documents are not yet checked. */
export interface Template {
  readonly file: string;
  readonly cluster: Positioned<ClusterDocument>;
  readonly controlPlane: Positioned<ControlPlaneDocument>;
  readonly workers: readonly Positioned<WorkersDocument>[];
  readonly machines: readonly Positioned<MachineDocument>[];
}

/** Longest template that is read: 16 MiB. */
const longest = 16 * 1024 * 1024;

/**
 * Reads the documents of a template. `file` is only for messages. Answers the problems when there are any; never throws for what
 * the text holds.
 */
export function parseTemplate(text: string, file: string): { template: Template } | { problems: Problem[] } {
  if (text.length > longest)
    return { problems: [{ file, line: 1, column: 1, path: "", message: "is longer than 16 MiB" }] };
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true });
  const list = Array.isArray(documents) ? (documents as Document.Parsed[]) : [];
  const problems: Problem[] = [];
  const read: { kind: string; positioned: Positioned<unknown> }[] = [];
  for (const document of list) {
    const at = (path: Path, message: string, fix?: string): Problem => {
      const { line, col } = lines.linePos(offsetOf(document, path));
      return { file, line, column: col, path: pathText(path), message, ...(fix ? { fix } : {}) };
    };
    for (const error of document.errors) {
      const { line, col } = lines.linePos(error.pos[0]);
      problems.push({
        file,
        line,
        column: col,
        path: "",
        message: error.message.split("\n")[0] ?? error.code,
        fix: "correct the YAML",
      });
    }
    if (document.errors.length > 0) continue;
    if (document.contents === null) continue;
    const value = toValue(document, problems, at);
    if (value === undefined) continue;
    read.push({ kind: (value as { kind: string }).kind, positioned: { value, problem: at } });
  }
  const of = <T>(kind: string) =>
    read.filter((item) => item.kind === kind).map((item) => item.positioned as Positioned<T>);
  const clusters = of<ClusterDocument>("Cluster");
  const controlPlanes = of<ControlPlaneDocument>("ControlPlane");
  for (const [kind, found] of [
    ["Cluster", clusters],
    ["ControlPlane", controlPlanes],
  ] as const) {
    for (const extra of found.slice(1))
      problems.push(extra.problem(["kind"], `there is a second ${kind}`, "a template has exactly one"));
  }
  const [cluster] = clusters;
  const [controlPlane] = controlPlanes;
  if (problems.length === 0) {
    const missing = !cluster ? "Cluster" : !controlPlane ? "ControlPlane" : undefined;
    if (missing)
      problems.push({
        file,
        line: 1,
        column: 1,
        path: "",
        message: `has no document of kind ${missing}`,
        fix: `add one after a line ---`,
      });
  }
  if (problems.length > 0 || !cluster || !controlPlane) return { problems };
  return {
    template: {
      file,
      cluster,
      controlPlane,
      workers: of<WorkersDocument>("Workers"),
      machines: of<MachineDocument>("Machine"),
    },
  };
}

/** The checked value of a document; undefined, with problems added, when its shape is wrong. */
function toValue(document: Document.Parsed, problems: Problem[], at: Positioned<unknown>["problem"]): unknown {
  let raw: unknown;
  try {
    raw = document.toJS({ maxAliasCount: 100 });
  } catch {
    problems.push(at([], "uses too many YAML aliases"));
    return undefined;
  }
  if (!isMap(document.contents)) {
    problems.push(
      at([], "is not a mapping", "each document starts with kind: Cluster, ControlPlane, Workers or Machine"),
    );
    return undefined;
  }
  const kind = (raw as { kind?: unknown }).kind;
  if (typeof kind !== "string" || !Object.hasOwn(documentSchemas, kind)) {
    const kinds = Object.keys(documentSchemas);
    const meant = typeof kind === "string" ? nearest(kind, kinds) : undefined;
    problems.push(
      at(
        ["kind"],
        kind === undefined ? "kind is missing" : `there is no kind ${JSON.stringify(kind)}`,
        meant ? `did you mean ${meant}?` : `use one of ${kinds.join(", ")}`,
      ),
    );
    return undefined;
  }
  const result = documentSchemas[kind as keyof typeof documentSchemas].safeParse(raw);
  if (result.success) return result.data;
  for (const issue of result.error.issues) addIssue(issue, raw, problems, at);
  return undefined;
}

function addIssue(
  issue: z.core.$ZodIssue,
  raw: unknown,
  problems: Problem[],
  at: Positioned<unknown>["problem"],
): void {
  const path = issue.path.filter((part) => typeof part !== "symbol");
  if (issue.code === "unrecognized_keys") {
    for (const key of issue.keys) {
      const meant = nearest(key, knownKeys(raw, path));
      problems.push(
        at([...path, key], `there is no field "${key}" here`, meant ? `did you mean ${meant}?` : "remove it"),
      );
    }
    return;
  }
  const present = hasPath(raw, path);
  const message = !present
    ? "is required"
    : issue.code === "custom"
      ? issue.message
      : lowerFirst(issue.message.replace(/^Invalid input: /, ""));
  problems.push(at(path, message));
}

/** Field names that the schema knows at a path: for suggestions. */
function knownKeys(raw: unknown, path: Path): string[] {
  const kind = (raw as { kind: keyof typeof documentSchemas }).kind;
  let schema: unknown = documentSchemas[kind];
  for (const part of path) {
    const def = inner(schema);
    schema =
      typeof part === "number"
        ? (def as { element?: unknown }).element
        : (def as { shape?: Record<string, unknown> }).shape?.[part];
  }
  return Object.keys((inner(schema) as { shape?: object }).shape ?? {});
}

/** Takes off `optional()`. */
function inner(schema: unknown): object {
  const def = (schema as { def?: { innerType?: unknown } } | undefined)?.def;
  return def?.innerType ? inner(def.innerType) : ((schema ?? {}) as object);
}

function hasPath(raw: unknown, path: Path): boolean {
  let value = raw;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !(part in value)) return false;
    value = (value as Record<string | number, unknown>)[part];
  }
  return true;
}

/** Offset of the text of a path; of the nearest thing around it when it is not there. For a key, of the key itself. */
function offsetOf(document: Document.Parsed, path: Path): number {
  let node: Node | null = document.contents;
  let offset = node?.range?.[0] ?? document.range[0];
  for (const part of path) {
    if (isMap(node)) {
      const pair: unknown = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(part),
      );
      if (!isPair(pair)) break;
      offset = (isNode(pair.key) ? pair.key.range?.[0] : undefined) ?? offset;
      node = isNode(pair.value) ? pair.value : null;
    } else {
      const next: unknown = (node as { items?: unknown[] } | null)?.items?.[Number(part)];
      if (!isNode(next)) break;
      offset = next.range?.[0] ?? offset;
      node = next;
    }
  }
  return offset;
}

function pathText(path: Path): string {
  return path.map((part, index) => (typeof part === "number" ? `[${part}]` : index === 0 ? part : `.${part}`)).join("");
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
