import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { noun, verb } from "#cli/command.ts";
import { age, answer, print, printJson } from "#cli/output.ts";
import { ControllerStatusKind } from "#kinds/access/controller-status.ts";

const graph = verb("graph", "controllers and the kinds between them, as Graphviz text", async ({ plane, json }) => {
  const { dot } = await plane.plane.graph({});
  if (json) printJson({ dot });
  else print(dot.trimEnd());
});

const status = verb("status", "the plane itself", async ({ plane, json }) => {
  const reply = await plane.plane.status({});
  const started = reply.started ? timestampDate(reply.started).getTime() : 0;
  if (json)
    printJson({
      version: reply.version,
      started: new Date(started).toISOString(),
      memoryBytes: Number(reply.memoryBytes),
      machines: reply.machines,
      connected: reply.connected,
    });
  else {
    print(`version    ${reply.version}`);
    print(`running    ${age(started)}`);
    print(`memory     ${(Number(reply.memoryBytes) / 2 ** 20).toFixed(0)} MiB`);
    print(`machines   ${reply.connected}/${reply.machines} connected`);
  }
});

const controllers = verb("controllers", "what runs, and what fails and why", async ({ plane, json }) => {
  answer(await plane.state.list(ControllerStatusKind), {
    json,
    toJson: ({ metadata, spec }) => ({
      name: metadata.id,
      purpose: spec.purpose,
      reconciles: Number(spec.reconciles),
      failures: Number(spec.failures),
      failing: spec.failing.map(({ key, error, attempts }) => ({ key, error, attempts })),
    }),
    empty: "No controller runs.",
    columns: [
      ["NAME", ({ metadata }) => metadata.id],
      ["RECONCILES", ({ spec }) => String(spec.reconciles)],
      ["FAILURES", ({ spec }) => String(spec.failures)],
      ["FAILING NOW", ({ spec }) => spec.failing.map(({ key, error }) => `${key}: ${error}`).join("; ")],
    ],
  });
});

/** `ichor debug …` */
export const debug: Command = noun("debug", "look inside the plane")
  .addCommand(graph)
  .addCommand(status)
  .addCommand(controllers);
