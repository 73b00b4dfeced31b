import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ManualClock } from "#lib/clock.ts";
import { silent } from "#lib/log.ts";
import { StateDirectory } from "./state-directory.ts";

const folder = mkdtempSync(join(tmpdir(), "ichor-state-"));
after(() => rmSync(folder, { recursive: true }));
const open = () => StateDirectory.open(folder, new ManualClock(), silent);

test("disks are kept from one start to the next", async () => {
  const first = await open();
  first.machine("a").meta["16"] = "token";
  first.dirty();
  await first.close();
  assert.equal((await open()).machine("a").meta["16"], "token");
});

test("a file that is not the emulator's is refused and left as it is", async () => {
  const path = join(folder, "emulator.json");
  for (const text of [
    "",
    "{",
    "null",
    "5",
    "[]",
    '{"version":2}',
    '{"version":1}',
    '{"version":1,"machines":{},"clusters":{}}',
    "\0\0",
  ]) {
    writeFileSync(path, text);
    await assert.rejects(open(), { code: "data_loss", message: /remove it to start anew/ }, text);
    assert.equal(readFileSync(path, "utf8"), text);
  }
});
