import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { IchorError } from "#lib/errors.ts";
import { incompatible } from "#talos/compatibility.ts";
import { checkPatch } from "#talos/patch-check.ts";
import { type CheckOptions, checkTemplate } from "#template/check.ts";
import { parseTemplate, type Template } from "#template/parse.ts";
import type { Step } from "#template/plan.ts";
import { formatProblem, type Problem } from "#template/problem.ts";
import { renderTemplate, type Wanted } from "#template/render.ts";
import { say } from "./output.ts";

/** A template of this machine, read and checked. */
export interface LocalTemplate {
  readonly template: Template;
  readonly wanted: readonly Wanted[];
}

/** Reads templates from files (or `-`, standard input) and tells what a sync does. */
export const localSource = {
  /** Reads, checks, renders. Throws `invalid_argument` that lists every problem with file, line and column. */
  read(file: string): LocalTemplate {
    const { template, problems } = check(file);
    if (!template || problems.length > 0) {
      const lines = problems.map((problem) => `  ${formatProblem(problem)}`).join("\n");
      throw new IchorError(
        "invalid_argument",
        `the template has ${problems.length === 1 ? "a problem" : `${problems.length} problems`}:\n${lines}`,
      );
    }
    return { template, wanted: renderTemplate(template, readerFor(file)) };
  },

  check,

  progress(step: Step, state: "start" | "done"): void {
    const [kind, id] =
      step.action === "delete" ? [step.kind, step.current.metadata.id] : [step.wanted.kind, step.wanted.id];
    const words = { create: ["creating", "created"], update: ["updating", "updated"], delete: ["deleting", "deleted"] }[
      step.action
    ];
    const name = kind.type.split(".")[0];
    if (state === "done") say(`${words[1]} ${name} ${id}`);
    else if (step.action === "delete") say(`${words[0]} ${name} ${id}`);
  },
};

function check(file: string): { template?: Template; problems: Problem[] } {
  const parsed = parseTemplate(readText(file), file === "-" ? "(standard input)" : file);
  if ("problems" in parsed) return { problems: parsed.problems };
  const options: CheckOptions = { readFile: readerFor(file), incompatible, checkPatch };
  return { template: parsed.template, problems: checkTemplate(parsed.template, options) };
}

/** Files named by a template are relative to it; from standard input, to the working directory. */
function readerFor(file: string): (path: string) => string {
  const base = file === "-" ? process.cwd() : dirname(file);
  return (path) => readText(resolve(base, path));
}

function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const why =
      code === "ENOENT"
        ? "there is no such file"
        : code === "EACCES"
          ? "permission denied"
          : code === "EISDIR"
            ? "it is a directory"
            : String(code);
    throw new IchorError("invalid_argument", `cannot read ${file}: ${why}`, { cause });
  }
}
