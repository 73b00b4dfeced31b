import { IchorError } from "#lib/errors.ts";
import { type ConfigDocument, parseConfig } from "./document.ts";
import { mergeDocuments } from "./merge.ts";

/**
 * Applies patches, texts in order, to a configuration. A patch that is a JSON list of operations (RFC 6902) is refused: configurations
 * of the plane have several documents (protocols.md 15.7). Throws `invalid_argument` that names the patch.
 */
export function applyPatches(
  documents: readonly ConfigDocument[],
  patches: readonly { readonly id: string; readonly text: string }[],
): ConfigDocument[] {
  let result = [...documents];
  for (const { id, text } of patches) {
    try {
      result = mergeDocuments(
        result,
        parsePatch(text).map(({ document }) => document),
      );
    } catch (error) {
      const why = error instanceof IchorError ? error.message : "cannot be applied";
      throw new IchorError("invalid_argument", `config patch "${id}": ${why}`, { cause: error });
    }
  }
  return result;
}

/** Reads a patch. Throws `invalid_argument`. */
export function parsePatch(text: string): ReturnType<typeof parseConfig> {
  if (/^\s*(\[|-\s+op:)/.test(text)) {
    throw new IchorError(
      "invalid_argument",
      "JSON patches (RFC 6902) cannot be used on configurations of several documents: write a strategic merge patch",
    );
  }
  return parseConfig(text);
}
