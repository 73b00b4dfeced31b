import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { stringify } from "yaml";
import { confirm, type Invocation, noun, verb } from "#cli/command.ts";
import { answer, print, printJson, say } from "#cli/output.ts";
import { showProgress } from "#cli/progress.ts";
import { localSource } from "#cli/template-source.ts";
import { IchorError } from "#lib/errors.ts";
import { redact } from "#talos/redact.ts";
import { applyPlan } from "#template/apply.ts";
import { diffOf, networkLosses, type Plan, planDelete, planSync } from "#template/plan.ts";
import { formatProblem } from "#template/problem.ts";

interface File {
  file?: string;
}

/** The file may stand as argument or as `--file`, as with the tools that users come from. */
function fileVerb<O extends File>(
  name: string,
  description: string,
  run: (invocation: Invocation, options: O, file: string) => Promise<void>,
): Command {
  return verb<O>(`${name} [file]`, description, async (invocation, options, given) => {
    const file = given ?? options.file;
    if (!file)
      throw new IchorError("invalid_argument", `name a template: ichor template ${name} FILE, or - for standard input`);
    await run(invocation, options, file);
  }).option("-f, --file <file>", "the template");
}

const validate = fileVerb(
  "validate",
  "check a template; every problem with file, line and column",
  async ({ json }, _options, file) => {
    const { problems } = localSource.check(file);
    if (json) printJson(problems);
    else for (const problem of problems) print(formatProblem(problem));
    if (problems.length > 0)
      throw new IchorError(
        "invalid_argument",
        `${file} has ${problems.length === 1 ? "a problem" : `${problems.length} problems`}`,
      );
    if (!json) say(`${file} is valid.`);
  },
);

const render = fileVerb("render", "show the resources that a template makes", async ({ json }, _options, file) => {
  const resources = localSource.read(file).wanted.map(({ kind, id, spec, labels, annotations }) => ({
    metadata: { namespace: kind.namespace, type: kind.type, id, labels, annotations },
    spec: toJson(kind.spec, spec),
  }));
  if (json) printJson(resources);
  else
    print(
      resources
        .map((resource) => stringify(resource))
        .join("---\n")
        .trimEnd(),
    );
});

const diff = fileVerb("diff", "show what a sync would change", async ({ plane, json }, _options, file) => {
  const { template, wanted } = localSource.read(file);
  showPlan(await planSync(template.cluster.value.name, wanted, plane.state), json);
});

interface SyncOptions extends File {
  dryRun?: boolean;
  force?: boolean;
  wait?: boolean;
  timeout?: string;
}

const sync = fileVerb<SyncOptions>(
  "sync",
  "bring a cluster to what its template says",
  async (invocation, options, file) => {
    const { template, wanted } = localSource.read(file);
    const name = template.cluster.value.name;
    const plan = await planSync(name, wanted, invocation.plane.state);
    if (options.dryRun) return showPlan(plan, invocation.json);
    const losses = networkLosses(plan);
    if (losses.length > 0 && !options.force) {
      throw new IchorError(
        "failed_precondition",
        `this removes ${losses.join(", ")}, which may give machines their network; look at "ichor template diff" and say --force if that is right`,
      );
    }
    await applyPlan(plan, invocation.plane.state, localSource.progress, invocation.signal);
    for (const { kind, id } of plan.kept) say(`kept ${kind.type.split(".")[0]} ${id}: not made by a template`);
    if (plan.steps.length === 0) say(`${name} is as the template says.`);
    if (options.wait)
      await showProgress(invocation, name, { wait: true, ...(options.timeout ? { timeout: options.timeout } : {}) });
    else if (invocation.json) printJson({ cluster: name, ...summary(plan) });
  },
)
  .option("--dry-run", "only show what would change")
  .option("--force", "go on although patches that give machines their network are removed")
  .option("--wait", "stay until the cluster is Running")
  .option("--timeout <duration>", "with --wait: give up after that long, such as 10m");

const status = fileVerb<SyncOptions>(
  "status",
  "what the cluster of a template waits for",
  async (invocation, options, file) => {
    const { template } = localSource.read(file);
    await showProgress(invocation, template.cluster.value.name, {
      wait: options.wait ?? false,
      ...(options.timeout ? { timeout: options.timeout } : {}),
    });
  },
)
  .option("--wait", "stay until it is Running")
  .option("--timeout <duration>", "with --wait: give up after that long, such as 10m");

const remove = fileVerb<File & { yes?: boolean }>(
  "delete",
  "destroy the cluster of a template and reset its machines",
  async ({ plane, signal }, options, file) => {
    const name = localSource.read(file).template.cluster.value.name;
    const plan = await planDelete(name, plane.state);
    await confirm(`Destroy cluster "${name}" and reset its machines? Their data is lost.`, options.yes);
    await applyPlan(plan, plane.state, localSource.progress, signal);
    say(`Cluster "${name}" is destroyed.`);
  },
).option("--yes", "do not ask");

function summary(plan: Plan): Record<string, string[]> {
  const of = (action: string) =>
    plan.steps
      .filter((step) => step.action === action)
      .map((step) =>
        step.action === "delete"
          ? `${step.kind.type}/${step.current.metadata.id}`
          : `${step.wanted.kind.type}/${step.wanted.id}`,
      );
  return {
    create: of("create"),
    update: of("update"),
    delete: of("delete"),
    kept: plan.kept.map(({ kind, id }) => `${kind.type}/${id}`),
  };
}

function showPlan(plan: Plan, json: boolean): void {
  if (json) {
    printJson({ cluster: plan.cluster, ...summary(plan) });
    return;
  }
  for (const step of plan.steps) print(diffOf(step, redact).trimEnd());
  answer(plan.kept, {
    columns: [
      ["KEPT", ({ id }) => id],
      ["KIND", ({ kind }) => kind.type],
    ],
    toJson: String,
    empty: "",
  });
  if (plan.steps.length === 0) say(`${plan.cluster} is as the template says.`);
}

/** `ichor template …` */
export const template: Command = noun("template", "cluster templates in Omni's format")
  .addCommand(validate)
  .addCommand(render)
  .addCommand(diff)
  .addCommand(sync)
  .addCommand(status)
  .addCommand(remove);
