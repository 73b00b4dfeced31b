import { isMap, LineCounter, parseAllDocuments, stringify } from "yaml";
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
  const parsed = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true, logLevel: "silent" });
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
    try {
      placed.push({ document: document.toJS({ maxAliasCount: 100 }) as ConfigDocument, line });
    } catch (cause) {
      throw new IchorError("invalid_argument", `line ${line}: uses too many YAML aliases`, { cause });
    }
  }
  return placed;
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
