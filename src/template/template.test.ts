import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { annotation, label } from "#kinds/labels.ts";
import { systemClock } from "#lib/clock.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { applyPlan, type ResourceWriter } from "./apply.ts";
import { type CheckOptions, checkTemplate } from "./check.ts";
import { parseTemplate, type Template } from "./parse.ts";
import { diffOf, networkLosses, planDelete, planSync } from "./plan.ts";
import { formatProblem } from "./problem.ts";
import { renderTemplate } from "./render.ts";

const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
const options: CheckOptions = {
  readFile: (path) => {
    throw new Error(`no file ${path}`);
  },
  incompatible: () => undefined,
  checkPatch: () => [],
};

function text(controlPlanes: number, extra = ""): string {
  const machines = Array.from({ length: controlPlanes }, (_, n) => uuid(n + 1));
  return `kind: Cluster
name: shop
kubernetes:
  version: v1.36.1
talos:
  version: v1.13.0
${extra}---
kind: ControlPlane
machines: ${JSON.stringify(machines)}
---
kind: Workers
machines: ["${uuid(9)}"]
`;
}

function parsed(source: string): Template {
  const result = parseTemplate(source, "shop.yaml");
  if ("problems" in result) assert.fail(result.problems.map(formatProblem).join("\n"));
  return result.template;
}

function problemsOf(source: string): string[] {
  const result = parseTemplate(source, "shop.yaml");
  return ("problems" in result ? result.problems : checkTemplate(result.template, options)).map(formatProblem);
}

test("a mistyped field is named with its place and what was meant", () => {
  const source = text(1).replace("kubernetes:\n  version", "kubernetes:\n  versoin");
  assert.deepEqual(
    problemsOf(source),
    [
      "shop.yaml:4:3: kubernetes.version: is required",
      'shop.yaml:4:3: kubernetes.versoin: there is no field "versoin" here; did you mean version?',
    ].map((line) => line.replace("4:3: kubernetes.version:", "3:1: kubernetes.version:")),
  );
});

test("even control planes are refused with the reason", () => {
  assert.match(
    problemsOf(text(2)).join(),
    /shop\.yaml:\d+:\d+: machines: an even number of control planes \(2\).*etcd stops.*use 1 or 3/,
  );
  assert.deepEqual(problemsOf(text(3)), []);
});

test("one machine in two sets, unknown kinds, missing documents, both file and inline", () => {
  assert.match(problemsOf(text(1).replace(uuid(9), uuid(1))).join(), /is already in control-planes/);
  assert.match(
    problemsOf(text(1).replace("kind: Workers", "kind: Worker")).join(),
    /there is no kind "Worker"; did you mean Workers\?/,
  );
  assert.match(
    problemsOf("kind: Cluster\nname: a\nkubernetes: {version: v1.36.1}\ntalos: {version: v1.13.0}\n").join(),
    /no document of kind ControlPlane/,
  );
  const both = "patches:\n  - name: a\n    file: x.yaml\n    inline: {}\n";
  assert.match(problemsOf(text(1, both)).join(), /patches\[0\]: file and inline exclude each other; keep one/);
  assert.match(problemsOf(text(1, "patches:\n  - file: x.yaml\n")).join(), /cannot read x\.yaml: no file x\.yaml/);
});

test("the reader survives any text", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 400 }), (source) => void problemsOf(source)),
    { numRuns: 300 },
  );
  const lines = text(3).split("\n");
  fc.assert(
    fc.property(
      fc.nat(lines.length - 1),
      fc.string({ maxLength: 20 }),
      (index, junk) => void problemsOf(lines.with(index, junk).join("\n")),
    ),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.object(), (value) => void problemsOf(stringify({ kind: "Cluster", ...value }))),
    { numRuns: 200 },
  );
});

test("renders ids, labels and weights as stock clients expect", () => {
  const wanted = renderTemplate(
    parsed(text(3, "patches:\n  - name: a\n    inline: {machine: {}}\n")),
    options.readFile,
  );
  const ids = wanted.map(({ kind, id }) => `${kind.type.split(".")[0]}/${id}`);
  assert.deepEqual(ids.slice(0, 4), [
    "Clusters/shop",
    "ConfigPatches/200-cluster-shop-a",
    "MachineSets/shop-control-planes",
    "MachineSets/shop-workers",
  ]);
  const node = wanted.find(({ id }) => id === uuid(9));
  assert.deepEqual(node?.labels, {
    [label.cluster]: "shop",
    [label.machineSet]: "shop-workers",
    [label.roleWorker]: "",
  });
});

function writerOf(state: State): ResourceWriter {
  return {
    create: async ({ kind, id, spec, labels, annotations }) =>
      void (await state.create(kind, id, spec, { labels, annotations })),
    update: async ({ kind, id, spec, labels, annotations }) =>
      void (await state.update(kind, id, (draft) => {
        Object.assign(draft.spec, spec);
        for (const [have, want] of [
          [draft.labels, labels],
          [draft.annotations, annotations],
        ] as const) {
          for (const key of Object.keys(have)) delete have[key];
          Object.assign(have, want);
        }
      })),
    teardown: async (kind, id) => void (await state.teardown(kind.key(id))),
    destroyWhenFree: async (kind, id) => state.destroy(kind.key(id)),
  };
}

test("sync brings about exactly the template, keeps what it does not own, and deletes it all", async () => {
  const store = new MemoryStore({ clock: systemClock });
  const state = new State(store);
  const signal = AbortSignal.timeout(10_000);
  const first = renderTemplate(
    parsed(
      text(
        3,
        "patches:\n  - name: net\n    inline: {machine: {network: {interfaces: [{interface: eth0, dhcp: true}]}}}\n",
      ),
    ),
    options.readFile,
  );
  await applyPlan(await planSync("shop", first, state), writerOf(state), () => {}, signal);
  assert.deepEqual((await planSync("shop", first, state)).steps, []);

  await state.create(ConfigPatchKind, "500-mine", { data: "machine: {}" }, { labels: { [label.cluster]: "shop" } });
  const second = renderTemplate(parsed(text(1)), options.readFile);
  const plan = await planSync("shop", second, state);
  assert.deepEqual(
    plan.kept.map(({ id }) => id),
    ["500-mine"],
  );
  assert.deepEqual(networkLosses(plan), ["200-cluster-shop-net"]);
  assert.match(
    diffOf(plan.steps.at(-1)!, (line) => line),
    /^-/m,
  );
  await applyPlan(plan, writerOf(state), () => {}, signal);
  assert.equal((await state.list(MachineSetNodeKind)).length, 2);

  await applyPlan(await planDelete("shop", state), writerOf(state), () => {}, signal);
  assert.deepEqual((await state.list(MachineSetNodeKind)).length, 0);
  assert.ok(await state.get(ConfigPatchKind, "500-mine"));
  await store.close();
});

test("what others made is not taken over", async () => {
  const state = new State(new MemoryStore({ clock: systemClock }));
  const wanted = renderTemplate(parsed(text(1)), options.readFile);
  await state.create(
    MachineSetNodeKind,
    uuid(1),
    {},
    { labels: { [label.cluster]: "other" }, annotations: { [annotation.managedByClusterTemplates]: "" } },
  );
  await assert.rejects(planSync("shop", wanted, state), /belongs to cluster "other"/);
});
