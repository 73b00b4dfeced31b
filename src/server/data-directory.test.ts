import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { codeOf } from "#lib/errors.ts";
import { DataDirectory } from "./data-directory.ts";

const root = mkdtempSync(join(tmpdir(), "ichor-data-"));
after(() => rmSync(root, { recursive: true }));
let count = 0;
const fresh = () => join(root, String(++count), "deep", "data");
const refused = (code: string, words: RegExp) => (error: unknown) => {
  assert.deepEqual([codeOf(error), words.test((error as Error).message)], [code, true], String(error));
  return true;
};
const modeOf = (path: string) => statSync(path).mode & 0o777;

test("it is made with its parents, private to its user, and so is what lies in it", () => {
  const path = fresh();
  const data = new DataDirectory(path);
  assert.equal(modeOf(path), 0o700);
  data.write("admin.token", "secret\n");
  assert.equal(modeOf(data.file("admin.token")), 0o600);
  assert.deepEqual([data.read("admin.token"), data.read("none")], ["secret", undefined]);
  data.write("admin.token", "another\n");
  assert.equal(data.read("admin.token"), "another");
  assert.ok(!readdirSync(path).some((name) => name.endsWith(".new")));
  data.close();
});

test("one plane at a time: a second one is refused, and the end of the first lets it in, however it came", async () => {
  const path = fresh();
  const first = new DataDirectory(path);
  assert.throws(
    () => new DataDirectory(path),
    refused("failed_precondition", /another plane runs on the data directory/),
  );
  first.close();
  const module = new URL("./data-directory.ts", import.meta.url).pathname;
  const script = `const { DataDirectory } = await import(${JSON.stringify(module)}); globalThis.held = new DataDirectory(${JSON.stringify(path)}); console.log("held"); setInterval(() => {}, 1e9);`;
  const other = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(other.stdout, "data");
  assert.throws(() => new DataDirectory(path), refused("failed_precondition", /another plane runs/));
  other.kill("SIGKILL");
  await once(other, "exit");
  new DataDirectory(path).close();
});

test("where there can be none, it says so", () => {
  const file = join(root, "file");
  writeFileSync(file, "");
  for (const path of [file, join(file, "below"), "/proc/ichor/data"])
    assert.throws(
      () => new DataDirectory(path),
      refused("permission_denied", /the data directory .* cannot be used: /),
    );
});

test("the master key is made once, kept private, and its loss or damage is told before anything is lost", () => {
  const path = fresh();
  const data = new DataDirectory(path);
  const key = data.masterKey();
  assert.equal(key.length, 32);
  const file = data.file("master.key");
  chmodSync(file, 0o644);
  assert.deepEqual(data.masterKey(), key);
  assert.equal(modeOf(file), 0o600);
  const text = readFileSync(file, "utf8");
  for (const damaged of ["", "AAAA", `AAAA${text}`]) {
    writeFileSync(file, damaged);
    assert.throws(() => data.masterKey(), refused("data_loss", /does not hold a key of 32 bytes/));
  }
  rmSync(file);
  writeFileSync(data.file("ichor.db"), "");
  assert.throws(() => data.masterKey(), refused("data_loss", /master\.key is missing: .*put it back/));
  data.close();
});
