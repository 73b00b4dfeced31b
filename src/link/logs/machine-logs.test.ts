import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "#lib/clock.ts";
import { silent } from "#lib/log.ts";
import { type LogLimits, MachineLogs } from "./machine-logs.ts";

const directories: string[] = [];
after(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

/** Logs in a fresh directory, with a clock of their own that begins now: files carry the time of the machine. */
function fresh(limits: LogLimits = {}) {
  const directory = mkdtempSync(join(tmpdir(), "ichor-logs-"));
  directories.push(directory);
  const clock = new ManualClock(Date.now());
  const make = () => new MachineLogs({ directory, clock, log: silent, ...limits });
  const size = () => readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  return { directory, clock, make, size };
}

const id = "8d2a8a1e-0000-4000-8000-000000000001";
const kernel = (seq: number) =>
  JSON.stringify({ msg: `line ${seq}`, seq, facility: "kern", priority: "info", clock: 123, "talos-level": "info" });

test("lines are answered at once, in order, from memory, from disk, and after a restart", async () => {
  const { make, clock } = fresh();
  const logs = make();
  for (let seq = 0; seq < 10; seq++) logs.append(id, kernel(seq));
  const all = Array.from({ length: 10 }, (_, seq) => kernel(seq));
  assert.deepEqual(await logs.tail(id), all);
  clock.advance(500);
  assert.deepEqual(await logs.tail(id), all);
  logs.append(id, kernel(10));
  assert.deepEqual(await logs.tail(id, 2), [kernel(9), kernel(10)]);
  assert.deepEqual(await logs.tail(id, 0), []);
  assert.deepEqual(await logs.tail("another"), []);
  await logs.close();
  const next = make();
  assert.deepEqual(await next.tail(id), [...all, kernel(10)]);
});

test("any lines of any machines come back, whatever is written and read in between", async () => {
  const line = fc.string({ unit: "grapheme", minLength: 1 }).map((text) => text.replaceAll(/[\n]/g, " "));
  const action = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fc.constantFrom("a", "b", "c"), line) },
    { weight: 1, arbitrary: fc.constantFrom("flush", "tail", "restart") },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const { make, clock, directory } = fresh();
      let logs = make();
      const expected = new Map<string, string[]>();
      for (const step of actions) {
        if (step === "flush") clock.advance(500);
        else if (step === "tail") assert.deepEqual(await logs.tail("a"), expected.get("a") ?? []);
        else if (step === "restart") {
          await logs.close();
          logs = make();
        } else {
          logs.append(step[0], step[1]);
          expected.set(step[0], [...(expected.get(step[0]) ?? []), step[1]]);
        }
      }
      for (const machine of ["a", "b", "c"]) assert.deepEqual(await logs.tail(machine), expected.get(machine) ?? []);
      await logs.close();
      rmSync(directory, { recursive: true, force: true });
    }),
    { numRuns: 40 },
  );
});

test("the bound holds on disk, in bytes, also for letters of several bytes; what is kept is the newest", async () => {
  for (const letter of ["x", "ü", "漢", "😀"]) {
    const { make, clock, size } = fresh({ size: 20_000 });
    const logs = make();
    for (let seq = 0; seq < 2000; seq++) {
      logs.append(id, `${seq} ${letter.repeat(50)}`);
      if (seq % 10 === 0) {
        clock.advance(500);
        await logs.tail(id, 1);
        assert.ok(size() <= 20_000, `${size()} bytes of ${letter}`);
      }
    }
    const lines = await logs.tail(id);
    assert.match(lines.at(-1)!, /^1999 /);
    const numbers = lines.map((text) => Number(text.split(" ")[0]));
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => numbers[0]! + index),
      "without a gap",
    );
    assert.ok(lines.length > 30, `${lines.length} lines are left`);
    await logs.close();
    assert.ok(size() <= 20_000);
  }
});

test("a flood between two writes keeps its newest lines, within the bound", async () => {
  const { make, size } = fresh({ size: 20_000 });
  const logs = make();
  for (let seq = 0; seq < 5000; seq++) logs.append(id, `${seq} ${"x".repeat(40)}`);
  assert.match((await logs.tail(id, 1))[0]!, /^4999 /);
  logs.append(id, "y".repeat(50_000));
  logs.append(id, "after a line beyond all bounds");
  assert.deepEqual(await logs.tail(id, 1), ["after a line beyond all bounds"]);
  await logs.close();
  assert.ok(size() <= 20_000, `${size()} bytes`);
});

test("files that nobody wrote to for too long are not shown, and go", async () => {
  const { make, clock, directory } = fresh({ age: 3_600_000 });
  const logs = make();
  logs.append(id, "old");
  await logs.close();
  const path = join(directory, `${id}.log`);
  clock.advance(3_500_000);
  assert.deepEqual(await make().tail(id), ["old"]);
  clock.advance(200_000);
  assert.deepEqual(await logs.tail(id), []);
  assert.ok(existsSync(path));
  make();
  assert.equal(existsSync(path), false, "a restart removes it");

  const longLived = make();
  longLived.append("silent", "last words");
  clock.advance(500);
  await longLived.tail("silent");
  utimesSync(join(directory, "silent.log"), 1000, 1000);
  clock.advance(2 * 86_400_000);
  longLived.append("talking", "x");
  clock.advance(500);
  await longLived.tail("talking");
  assert.equal(existsSync(join(directory, "silent.log")), false, "and so does a plane that goes on");
});

test("a line that a crash cut short stays alone: the next one is whole", async () => {
  const { make, directory } = fresh();
  const logs = make();
  logs.append(id, kernel(1));
  await logs.close();
  appendFileSync(join(directory, `${id}.log`), '{"msg":"half a li');
  const next = make();
  next.append(id, kernel(2));
  next.append(id, kernel(3));
  await next.close();
  assert.deepEqual(await make().tail(id), [kernel(1), '{"msg":"half a li', kernel(2), kernel(3)]);
  assert.equal(readFileSync(join(directory, `${id}.log`), "utf8").endsWith("\n"), true);
});

test("a file that somebody removed or made meanwhile is no obstacle", async () => {
  const { make, directory, clock } = fresh({ size: 400 });
  const logs = make();
  for (let seq = 0; seq < 5; seq++) {
    logs.append(id, `${seq} ${"x".repeat(150)}`);
    clock.advance(500);
    await logs.tail(id, 0);
    rmSync(join(directory, `${id}.log`), { force: true });
  }
  logs.append(id, "last");
  clock.advance(500);
  assert.deepEqual(await logs.tail(id), ["last"]);
  assert.equal(readFileSync(join(directory, `${id}.log`), "utf8"), "last\n");
});

test("while the disk takes nothing, lines wait in memory, and are written when it does", async () => {
  const { make, directory, clock } = fresh();
  const logs = make();
  rmSync(directory, { recursive: true });
  logs.append(id, "one");
  clock.advance(500);
  assert.deepEqual(await logs.tail(id), ["one"]);
  const again = mkdtempSync(join(tmpdir(), "ichor-logs-"));
  directories.push(again);
  assert.deepEqual(await logs.tail(id), ["one"]);
  const { mkdirSync } = await import("node:fs");
  mkdirSync(directory, { mode: 0o700 });
  chmodSync(directory, 0o700);
  logs.append(id, "two");
  clock.advance(500);
  assert.deepEqual(await logs.tail(id), ["one", "two"]);
  assert.equal(readFileSync(join(directory, `${id}.log`), "utf8"), "one\ntwo\n");
});

test("nobody else may read them", async () => {
  const { make, directory } = fresh();
  const logs = make();
  logs.append(id, "x");
  await logs.close();
  assert.equal(statSync(join(directory, `${id}.log`)).mode & 0o777, 0o600);
});

test("who follows gets the last lines, then each new one once, while it is written", async () => {
  const { make, clock } = fresh();
  const logs = make();
  for (let seq = 0; seq < 5; seq++) logs.append(id, `${seq}`);
  const stop = new AbortController();
  const got: string[] = [];
  for await (const line of logs.follow(id, 3, stop.signal)) {
    got.push(line);
    const next = Number(line) + 1;
    if (next === 30) stop.abort();
    if (next >= 5) logs.append(id, `${next}`);
    if (next % 4 === 0) clock.advance(500);
  }
  assert.deepEqual(
    got,
    Array.from({ length: 28 }, (_, index) => `${index + 2}`),
  );
});

test("a line that comes while a follower reads what was before is neither lost nor told twice", async () => {
  const { make, clock } = fresh();
  const logs = make();
  logs.append(id, "0");
  clock.advance(500);
  for (let round = 0; round < 30; round++) {
    const stop = new AbortController();
    const lines = logs.follow(id, -1, stop.signal);
    const first = lines.next();
    // Between the reading of the file and the first answer, in turns of the loop that differ by round.
    for (let turn = 0; turn < round; turn++) await Promise.resolve();
    const added = `${round + 1}`;
    logs.append(id, added);
    const got = [(await first).value as string];
    while (got.at(-1) !== added) got.push((await lines.next()).value as string);
    assert.deepEqual(
      got,
      Array.from({ length: round + 2 }, (_, index) => `${index}`),
    );
    stop.abort();
    assert.equal((await lines.next()).done, true);
  }
});

test("a follower that is too slow is told how much it missed, and costs no more memory", async () => {
  const { make } = fresh();
  const logs = make();
  const stop = new AbortController();
  const lines = logs.follow(id, 0, stop.signal);
  logs.append(id, "first");
  const begin = lines.next();
  await logs.tail(id, 0);
  logs.append(id, "wakes");
  assert.equal((await begin).value, "wakes");
  for (let seq = 0; seq < 5000; seq++) logs.append(id, `${seq}`);
  assert.match(String((await lines.next()).value), /3000 lines were not shown/);
  assert.equal((await lines.next()).value, "3000");
  stop.abort();
});

test("a machine that is forgotten leaves nothing", async () => {
  const { make, clock, directory } = fresh();
  const logs = make();
  logs.append(id, "written");
  clock.advance(500);
  await logs.tail(id);
  logs.append(id, "waiting");
  await logs.remove(id);
  clock.advance(500);
  assert.deepEqual(await logs.tail(id), []);
  await logs.close();
  assert.deepEqual(readdirSync(directory), []);
});
