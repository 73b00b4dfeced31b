import { type Document, isMap, isPair, isScalar, LineCounter, parseAllDocuments, stringify, visit } from "yaml";
import { IchorError } from "#lib/errors.ts";

/** A configuration document as plain values. The main one has `version: v1alpha1` and no kind. */
export type ConfigDocument = Record<string, unknown>;

/** A document with the line that it starts on, from 1. */
export interface PlacedDocument {
  readonly document: ConfigDocument;
  readonly line: number;
}

/** Longest configuration that is read: 16 MiB. */
const longest = 16 * 1024 * 1024;

/** Reads all documents of a configuration or patch. Throws `invalid_argument` with line and column. */
export function parseConfig(text: string): PlacedDocument[] {
  if (text.length > longest) throw new IchorError("invalid_argument", "the configuration is longer than 16 MiB");
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true, merge: true, logLevel: "silent" });
  const placed: PlacedDocument[] = [];
  for (const document of Array.isArray(parsed) ? parsed : []) {
    const [error] = document.errors;
    if (error) {
      const { line, col } = lines.linePos(error.pos[0]);
      throw new IchorError("invalid_argument", `line ${line}, column ${col}: ${error.message.split("\n")[0]}`);
    }
    if (document.contents === null) continue;
    const { line } = lines.linePos(document.contents.range?.[0] ?? 0);
    if (!isMap(document.contents))
      throw new IchorError("invalid_argument", `line ${line}: a configuration document is a mapping`);
    keepNumbers(document);
    try {
      placed.push({ document: apart(document.toJS({ maxAliasCount: 100 })) as ConfigDocument, line });
    } catch (cause) {
      throw new IchorError("invalid_argument", `line ${line}: uses too many YAML aliases`, { cause });
    }
  }
  return placed;
}

/**
 * Numbers that JavaScript would write in another way stay texts: most fields of a configuration that hold `1.10` want just that text.
 * Two kinds of number are none of these: hexadecimal and `0o` ones, and file modes in the old octal form, which Talos reads as octal.
 */
function keepNumbers(document: Document): void {
  visit(document, {
    Scalar(key, node, path) {
      const { value, source = "" } = node;
      if (typeof value !== "number" || String(value) === source || /^[-+]?0[xo]/.test(source)) return;
      const pair = path.at(-1);
      const isMode = key === "value" && isPair(pair) && isScalar(pair.key) && pair.key.value === "permissions";
      node.value = isMode && /^0[0-7]+$/.test(source) ? Number.parseInt(source, 8) : source;
    },
  });
}

/** A copy in which nothing is there twice: what an anchor and its aliases name must not change together. */
function apart(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(apart);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, apart(item)]));
}

/** One YAML text of documents. */
export function printConfig(documents: readonly ConfigDocument[]): string {
  return documents.map((document) => stringify(document, { lineWidth: 0 })).join("---\n");
}

/** Whether it is the main document, which has no kind. */
export function isMain(document: ConfigDocument): boolean {
  return document.kind === undefined && document.apiVersion === undefined;
}

/** What documents are matched by: version, kind and name. */
export function documentId(document: ConfigDocument): string {
  if (isMain(document)) return "v1alpha1";
  return [document.apiVersion, document.kind, document.name].filter((part) => part !== undefined).join("/");
}
