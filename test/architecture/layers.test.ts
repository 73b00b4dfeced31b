import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";

/** What a module of src/ may import, besides itself (docs/architecture.md, "Layers"). */
const rows: Record<string, string[]> = {
  lib: [],
  // generated code keeps its own relative imports
  resource: ["lib"],
  kinds: ["resource", "gen", "lib"],
  store: ["resource", "lib"],
  engine: ["store", "resource", "lib"],
  wireguard: ["lib"],
  netstack: ["lib"],
  talos: ["gen", "lib"],
  template: ["kinds", "resource", "talos", "gen", "lib"],
  link: ["wireguard", "netstack", "kinds", "resource", "store", "gen", "lib"],
  guard: ["kinds", "resource", "store", "gen", "lib"],
  controllers: ["engine", "kinds", "resource", "store", "talos", "link", "reference", "gen", "lib"],
  api: ["guard", "kinds", "resource", "store", "talos", "gen", "lib"],
  server: [
    "lib",
    "gen",
    "resource",
    "kinds",
    "store",
    "engine",
    "wireguard",
    "netstack",
    "talos",
    "link",
    "reference",
    "guard",
    "controllers",
    "api",
  ],
  cli: ["template", "kinds", "resource", "talos", "gen", "lib"],
  emulator: ["engine", "store", "resource", "talos", "wireguard", "netstack", "gen", "lib"],
};

/** These rows are for types only: the part itself is constructed by server/. */
const typesOnly = new Set(["controllers>store", "controllers>link", "api>store", "api>link", "api>engine"]);
/** Edges that start a program, not a dependency of code: the reason stands beside. */
const entrances: Record<string, string> = {
  "src/cli/commands/up.ts>server": "`ichor up` runs the plane in its own process",
  "src/cli/commands/emulate.ts>emulator": "`ichor emulate` runs the machines in its own process",
};

const importLine = /^\s*(import|export)\s+(type\s+)?[^"';]*?from\s+"([^"]+)"|import\("([^"]+)"\)/gm;

for (const [module, allowed] of Object.entries(rows)) {
  test(`${module} imports only from its row`, () => {
    for (const file of globSync(`src/${module}/**/*.ts`)) {
      const isTest = file.endsWith(".test.ts");
      for (const [, , type, from, dynamic] of readFileSync(file, "utf8").matchAll(importLine)) {
        const target = from ?? dynamic ?? "";
        assert.ok(!target.startsWith("../"), `${file} climbs to ${target}: use #module/file.ts`);
        if (!target.startsWith("#")) continue;
        const other = target.slice(1).split("/")[0] ?? "";
        if (other === module || `${file}>${other}` in entrances) continue;
        // A test may use the real parts that its module meets only at run time.
        if (isTest) continue;
        assert.ok(
          allowed.includes(other),
          `${file} imports ${target}: ${module} may import ${allowed.join(", ") || "nothing of ours"}`,
        );
        if (typesOnly.has(`${module}>${other}`)) {
          assert.ok(
            type || isPure(target),
            `${file} imports a value from ${target}: ${module} may take only types of ${other}`,
          );
        }
      }
    }
  });
}

/** Comfort over an interface, without a backend: may be used wherever the interface may. */
function isPure(target: string): boolean {
  return ["#store/state.ts", "#engine/transform.ts", "#engine/tasks.ts"].includes(target);
}

test("pure modules do not touch Node", () => {
  for (const module of ["resource", "kinds"]) {
    for (const file of globSync(`src/${module}/**/*.ts`)) {
      if (file.endsWith(".test.ts")) continue;
      assert.doesNotMatch(
        readFileSync(file, "utf8"),
        /from "node:|\bBuffer\b|\bprocess\./,
        `${file}: web and CLI share it`,
      );
    }
  }
});

test("only server, cli and emulator read the environment", () => {
  for (const file of globSync("src/**/*.ts")) {
    if (/^src\/(server|cli|emulator|gen)\//.test(file) || file.endsWith(".test.ts")) continue;
    assert.ok(!/process\.(env|argv)/.test(readFileSync(file, "utf8")), file);
  }
});
