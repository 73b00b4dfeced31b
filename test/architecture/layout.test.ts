import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { version } from "#lib/version.ts";
import { registryText } from "../../tools/kinds.ts";

const sources = globSync("src/**/*.ts").filter((file) => !file.startsWith("src/gen/"));

test("every module says what it is for", () => {
  for (const folder of globSync("src/*").filter((path) => statSync(path).isDirectory() && path !== "src/gen")) {
    assert.ok(existsSync(`${folder}/doc.ts`), `${folder} has no doc.ts`);
    assert.match(
      readFileSync(`${folder}/doc.ts`, "utf8"),
      /^\/\*\*/,
      `${folder}/doc.ts does not open with a doc comment`,
    );
  }
});

test("folders stay shallow and small", () => {
  const counts = new Map<string, number>();
  for (const file of sources) {
    assert.ok(file.split("/").length <= 5, `${file} lies more than three folders below src`);
    if (!file.endsWith(".test.ts")) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  }
  for (const [folder, count] of counts)
    assert.ok(count <= 26, `${folder} has ${count} files; 25 and a doc.ts are the most`);
});

test("a file over 500 lines says in its head why it is one piece", () => {
  for (const file of sources) {
    const text = readFileSync(file, "utf8");
    if (text.split("\n").length <= 500) continue;
    assert.ok(/one piece/i.test(text.slice(0, 1500)), `${file} is long and does not say why`);
  }
});

test("the registry of kinds is what the files say", () => {
  // The formatter may order imports otherwise: compare what is imported, and the list.
  const parts = (text: string) => [text.match(/import \{ .*/g)?.sort(), text.match(/^ {2}\w+Kind,$/gm)];
  assert.deepEqual(parts(readFileSync("src/kinds/all.ts", "utf8")), parts(registryText()), "run: node tools/kinds.ts");
});

test("the version is the one of package.json", () => {
  assert.equal(version, JSON.parse(readFileSync("package.json", "utf8")).version);
});

test("no test sleeps", () => {
  const sleep = /setTimeout\((resolve|done|r)\b|setTimeout[^;]*"(node:)?timers\/promises"/;
  for (const file of globSync(["src/**/*.test.ts", "test/**/*.test.ts"]))
    assert.ok(!sleep.test(readFileSync(file, "utf8")), `${file} waits for a time, not for a state`);
});
