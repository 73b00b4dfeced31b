import assert from "node:assert/strict";
import { test } from "node:test";
import { abortable } from "#lib/abort.ts";
import { ManualClock } from "#lib/clock.ts";
import { silent } from "#lib/log.ts";
import { TaskRunner } from "./tasks.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));
const forever = (signal: AbortSignal) => abortable(new Promise<never>(() => {}), signal);

test("one task for each key, with the newest spec, ended before the next begins", async () => {
  const events: string[] = [];
  const tasks = new TaskRunner<{ address: string }>(
    async (key, { address }, signal) => {
      events.push(`${key} ${address}`);
      await forever(signal).catch(() => {});
      await turn();
      events.push(`${key} ${address} over`);
    },
    new ManualClock(),
    silent,
  );
  await tasks.sync("a", { address: "1" });
  await tasks.sync("a", { address: "1" });
  await tasks.sync("b", { address: "2" });
  assert.deepEqual([events, tasks.size], [["a 1", "b 2"], 2]);
  await Promise.all([tasks.sync("a", { address: "3" }), tasks.sync("b", undefined)]);
  assert.deepEqual(events.slice(2).sort(), ["a 1 over", "a 3", "b 2 over"]);
  assert.ok(events.indexOf("a 1 over") < events.indexOf("a 3"));
  await tasks.sync("unknown", undefined);
  await tasks.stop();
  assert.deepEqual([events.at(-1), tasks.size], ["a 3 over", 0]);
});

test("a task that throws or returns is started again, later and later, at once patient again when it was healthy", async () => {
  const clock = new ManualClock();
  const at: number[] = [];
  let well = false;
  const tasks = new TaskRunner<string>(
    async (_key, _spec, _signal, healthy) => {
      at.push(clock.monotonic());
      if (well) healthy();
      if (at.length % 2) throw new Error("refused");
    },
    clock,
    silent,
  );
  const go = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 10) {
      await turn();
      clock.advance(10);
    }
    const waits = at.slice(1).map((time, index) => time - at[index]!);
    at.splice(0, at.length - 1);
    return waits;
  };
  await tasks.sync("a", "spec");
  const waits = await go(10_000);
  assert.ok(waits.length >= 5 && waits.length <= 9, waits.join());
  assert.ok(waits.at(-1)! > 10 * waits[0]!, waits.join());
  well = true;
  const healthy = (await go(20_000)).slice(2);
  assert.ok(healthy.length > 50 && healthy.every((wait) => wait <= 210), healthy.slice(0, 20).join());
  await tasks.stop();
  assert.equal(clock.pending, 0);
});
