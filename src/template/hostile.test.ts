import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { incompatible } from "#talos/compatibility.ts";
import { checkPatch } from "#talos/patch-check.ts";
import { type CheckOptions, checkTemplate } from "./check.ts";
import { parseTemplate } from "./parse.ts";
import { formatProblem } from "./problem.ts";
import { renderTemplate } from "./render.ts";

// Whatever is written into a template: problems with their places, or resources; never a throw.

const options: CheckOptions = {
  readFile: (path) => {
    if (path === "patch.yaml") return "machine:\n  sysctls:\n    a: b\n";
    throw new Error("there is no such file");
  },
  incompatible,
  checkPatch,
};
const good = `kind: Cluster
name: shop
labels:
  region: north
kubernetes:
  version: v1.36.3
talos:
  version: v1.13.9
patches:
  - name: net
    inline:
      machine:
        network: { hostname: a }
  - file: patch.yaml
---
kind: ControlPlane
machines:
  - 00000000-0000-4000-8000-000000000001
---
kind: Workers
name: shelf
machines: [ 00000000-0000-4000-8000-000000000002 ]
---
kind: Machine
name: 00000000-0000-4000-8000-000000000002
install:
  disk: /dev/sda
`;

/** Checks one text; true when it is a template. */
function survives(text: string): boolean {
  const parsed = parseTemplate(text, "shop.yaml");
  const problems = "problems" in parsed ? parsed.problems : checkTemplate(parsed.template, options);
  const lines = text.split(/\r\n|\r|\n/).length;
  for (const problem of problems) {
    const told = formatProblem(problem);
    assert.equal(problem.file, "shop.yaml");
    assert.ok(problem.line >= 1 && problem.line <= lines + 1 && problem.column >= 1, `${told}\n${text}`);
    assert.ok(problem.message.length > 0 && !/undefined|\[object/.test(told), told);
  }
  if ("problems" in parsed) {
    assert.ok(problems.length > 0, `no template, and no reason:\n${text}`);
    return false;
  }
  if (problems.length > 0) return false;
  for (const { kind, id } of renderTemplate(parsed.template, options.readFile)) assert.ok(kind.type && id);
  return true;
}

test("the good one is good, so that changes of it are not all refused at the door", () => {
  assert.ok(survives(good));
});

test("any change of lines", () => {
  const lines = good.split("\n");
  const at = fc.nat(lines.length - 1);
  const edit = fc.oneof(
    fc.tuple(fc.constant("drop"), at, fc.constant("")),
    fc.tuple(fc.constant("twice"), at, fc.constant("")),
    fc.tuple(fc.constant("indent"), at, fc.constantFrom(" ", "  ", "\t")),
    fc.tuple(
      fc.constant("value"),
      at,
      fc.constantFrom(
        "",
        "null",
        "[]",
        "{}",
        "5",
        "~",
        "!!binary x",
        "*a",
        "&a b",
        "2026-01-01",
        "- -",
        "'",
        ".nan",
        "<<: x",
        "..",
        "v0",
        "v99.99.99",
      ),
    ),
    fc.tuple(fc.constant("junk"), at, fc.string({ maxLength: 20 })),
  );
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      const text = [...lines];
      for (const [how, line, extra] of edits) {
        const old = text[line] ?? "";
        if (how === "drop") text[line] = "";
        else if (how === "twice") text[line] = `${old}\n${old}`;
        else if (how === "indent") text[line] = extra + old;
        else if (how === "value") text[line] = old.replace(/:.*$/, `: ${extra}`);
        else text[line] = extra;
      }
      survives(text.join("\n"));
    }),
    { numRuns: 600 },
  );
});

test("any values in the fields that there are", () => {
  const fields = [
    "name",
    "labels",
    "annotations",
    "kubernetes",
    "talos",
    "features",
    "patches",
    "machines",
    "machineClass",
    "install",
    "locked",
    "updateStrategy",
    "systemExtensions",
    "kernelArgs",
    "bootstrapSpec",
    "x",
  ];
  const value = fc.oneof(
    fc.anything({ maxDepth: 3 }),
    fc.constantFrom(
      "v1.13.9",
      ["00000000-0000-4000-8000-000000000001"],
      [{ name: "a", inline: {} }],
      [{ file: "patch.yaml" }],
      { version: "v1.36.3" },
    ),
  );
  const document = fc
    .tuple(
      fc.constantFrom("Cluster", "ControlPlane", "Workers", "Machine", "Other"),
      fc.dictionary(fc.constantFrom(...fields), value),
    )
    .map(([kind, rest]) => ({ kind, ...rest }));
  fc.assert(
    fc.property(fc.array(document, { maxLength: 4 }), (documents) => {
      let text: string;
      try {
        text = documents.map((one) => stringify(one)).join("---\n");
      } catch {
        return; // Not everything can be written as YAML.
      }
      survives(text);
    }),
    { numRuns: 500 },
  );
});

test("any text at all", () => {
  const text = fc.oneof(
    fc.string({ maxLength: 300 }),
    fc.string({ unit: "binary", maxLength: 300 }),
    fc
      .array(
        fc.constantFrom(
          "a",
          ":",
          " ",
          "\n",
          "-",
          "[",
          "{",
          "'",
          '"',
          "|",
          ">",
          "&",
          "*",
          "!",
          "---\n",
          "kind: Cluster\n",
          "\t",
          "\u0000",
          "\ufeff",
        ),
        { maxLength: 60 },
      )
      .map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(text, (source) => {
      survives(source);
    }),
    { numRuns: 600 },
  );
});

test("any patch is a problem with its place, or goes into the cluster as it is", () => {
  const patch = fc.oneof(
    fc.string({ maxLength: 100 }),
    fc.object({ maxDepth: 4 }).map((value) => stringify(value)),
    fc.constantFrom(
      "machine: 5",
      "machine:\n  token: x",
      "kind: X",
      "- op: add\n  path: /machine\n  value: 1",
      "cluster: {ca: {}}",
      "---\n---\n",
    ),
  );
  fc.assert(
    fc.property(patch, (inline) => {
      survives(
        `kind: Cluster\nname: shop\nkubernetes: {version: v1.36.3}\ntalos: {version: v1.13.9}\npatches:\n  - name: any\n    inline: ${JSON.stringify(inline)}\n---\nkind: ControlPlane\nmachines: [ 00000000-0000-4000-8000-000000000001 ]\n`,
      );
    }),
    { numRuns: 300 },
  );
});
