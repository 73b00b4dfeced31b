// Comparing configurations by what they mean, and running stock talosctl on them.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "#talos/document.ts";
import { goTool } from "./build.ts";

/** Without what an encoder may leave out: empty maps, lists and texts, and zeroes. */
export function normal(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .map(([key, item]) => [key, normal(item)] as const)
    .filter(
      ([, item]) =>
        !(
          item === "" ||
          item === 0 ||
          item === null ||
          (typeof item === "object" && Object.keys(item as object).length === 0)
        ),
    );
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The documents of a text, made normal. */
export const normalConfig = (text: string): unknown[] => parseConfig(text).map(({ document }) => normal(document));

/** Stock talosctl with a folder for its files. */
export interface Talosctl {
  /** Runs it; throws what it said when it fails. */
  run(...args: string[]): string;
  /** Writes a file and answers its path. */
  file(name: string, text: string): string;
  close(): void;
}

/** talosctl, or why it is not to be had here: give that to `t.skip`. */
export async function openTalosctl(): Promise<Talosctl | { skip: string }> {
  const tool = await goTool("talosctl");
  if ("skip" in tool) return tool;
  const folder = mkdtempSync(join(tmpdir(), "ichor-talosctl-"));
  return {
    run: (...args) => execFileSync(tool.path, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }),
    file(name, text) {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    },
    close: () => rmSync(folder, { recursive: true }),
  };
}
