import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backoffDelay } from "#lib/backoff.ts";
import { ManualClock } from "#lib/clock.ts";
import { KeyedQueue } from "./queue.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Work that goes on until the test ends it, and a log of what was begun. */
function gate() {
  const begun: string[] = [];
  const open = new Map<string, PromiseWithResolvers<void>>();
  const work = (key: string) => {
    assert.ok(!open.has(key), `${key} runs twice at once`);
    begun.push(key);
    const held = Promise.withResolvers<void>();
    open.set(key, held);
    return held.promise.finally(() => open.delete(key));
  };
  return {
    begun,
    work,
    end: (key: string, error?: Error) => (error ? open.get(key)?.reject(error) : open.get(key)?.resolve()),
    open,
  };
}

test("a key that comes many times while it runs is done once more, never twice at once", async () => {
  const { begun, work, end } = gate();
  const queue = new KeyedQueue({ clock: new ManualClock(), concurrency: 4, work });
  for (let n = 0; n < 5; n++) queue.add("a");
  await turn();
  assert.deepEqual(begun, ["a"]);
  for (let n = 0; n < 5; n++) queue.add("a");
  await turn();
  assert.deepEqual([begun, queue.queued, queue.running], [["a"], 1, 1]);
  end("a");
  await turn();
  assert.deepEqual(begun, ["a", "a"]);
  end("a");
  await turn();
  assert.deepEqual([begun.length, queue.queued, queue.running], [2, 0, 0]);
});

test("at most as many keys as allowed run at once, in the order in which they came", async () => {
  const { begun, work, end } = gate();
  const queue = new KeyedQueue({ clock: new ManualClock(), concurrency: 2, work });
  for (const key of ["c", "a", "b", "d"]) queue.add(key);
  await turn();
  assert.deepEqual(begun, ["c", "a"]);
  end("a");
  await turn();
  assert.deepEqual(begun, ["c", "a", "b"]);
  assert.equal(queue.running, 2);
});

test("any order of adds and ends: no key lost, none twice at once, nothing after the stop", async () => {
  const step = fc.oneof(
    fc.record({ op: fc.constantFrom("add", "end", "fail"), key: fc.constantFrom("a", "b", "c", "d") }),
    fc.record({ op: fc.constant("time"), key: fc.constant("") }),
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 3 }), fc.array(step, { maxLength: 60 }), async (concurrency, steps) => {
      const clock = new ManualClock();
      const { begun, work, end, open } = gate();
      const queue = new KeyedQueue({ clock, concurrency, work });
      /** Keys that came after their last start. */
      const owed = new Set<string>();
      let seen = 0;
      const look = async () => {
        await turn();
        for (; seen < begun.length; seen++) owed.delete(begun[seen]!);
        assert.ok(queue.running <= concurrency);
        assert.equal(queue.running, open.size);
      };
      for (const { op, key } of steps) {
        if (op === "add") {
          owed.add(key);
          queue.add(key);
        } else if (op === "time") clock.advance(1000);
        else end(key, op === "fail" ? new Error("no") : undefined);
        await look();
      }
      while (queue.queued + queue.running > 0) {
        for (const key of [...open.keys()]) end(key);
        await look();
      }
      assert.deepEqual([...owed], []);
      queue.add("last");
      await turn();
      const stopped = queue.stop();
      queue.add("late");
      end("last");
      await stopped;
      clock.advance(1e9);
      await turn();
      assert.equal(begun.at(-1), "last");
      assert.equal(clock.pending, 0);
    }),
    { numRuns: 60 },
  );
});

test("a key that fails is tried again alone, later and later up to the bound, and its failure is told", async () => {
  const clock = new ManualClock();
  const tries = new Map<string, number[]>();
  let bad = true;
  const queue = new KeyedQueue({
    clock,
    concurrency: 1,
    work: async (key) => {
      tries.set(key, [...(tries.get(key) ?? []), clock.monotonic()]);
      if (key === "bad" && bad) throw new Error("the disk is full");
    },
  });
  queue.add("bad");
  queue.add("good");
  await turn();
  const since = clock.now();
  for (let second = 0; second < 300; second += 1) {
    clock.advance(1000);
    await turn();
  }
  assert.equal(tries.get("good")?.length, 1);
  const times = tries.get("bad")!;
  const waits = times.slice(1).map((time, index) => time - times[index]!);
  assert.ok(waits.length > 10);
  for (const [attempt, wait] of waits.entries()) {
    const ceiling = Math.min(30_000, 100 * 2 ** attempt);
    // The clock is moved by seconds: a try comes at most one late.
    assert.ok(wait >= ceiling / 2 && wait <= ceiling + 1000, `try ${attempt + 1} came after ${wait} ms`);
  }
  const [failing] = queue.failing(10);
  assert.deepEqual([failing?.key, failing?.error, failing?.since], ["bad", "the disk is full", since]);
  assert.equal(failing?.attempts, times.length);
  bad = false;
  queue.add("bad");
  await turn();
  assert.deepEqual([queue.failures, queue.failing(10), clock.pending], [0, [], 0]);
});

test("a change does not wait for the backoff of an earlier failure, nor does its timer come too", async () => {
  const clock = new ManualClock();
  let tries = 0;
  const queue = new KeyedQueue({
    clock,
    concurrency: 1,
    work: async () => {
      if (++tries < 2) throw new Error("not yet");
    },
  });
  queue.add("a");
  await turn();
  assert.equal(clock.pending, 1);
  queue.add("a");
  await turn();
  clock.advance(60_000);
  await turn();
  assert.deepEqual([tries, clock.pending], [2, 0]);
});

test("the shortest time that was asked for counts", async () => {
  const clock = new ManualClock();
  const at: number[] = [];
  const queue = new KeyedQueue({
    clock,
    concurrency: 1,
    work: async (_key, again) => {
      at.push(clock.monotonic());
      if (at.length === 1) {
        again(500);
        again(200);
        again(900);
      }
    },
  });
  queue.add("a");
  for (let n = 0; n < 100; n++) {
    await turn();
    clock.advance(10);
  }
  assert.deepEqual(at, [0, 200]);
  assert.equal(clock.pending, 0);
});

test("a delay lies between half of and the whole ceiling, and the ceiling ends growing", () => {
  fc.assert(
    fc.property(
      fc.nat(100),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1000, max: 100_000 }),
      (attempt, random, initial, max) => {
        const ceiling = Math.min(max, initial * 2 ** attempt);
        const delay = backoffDelay(attempt, { initial, max, random: () => random });
        assert.ok(delay >= ceiling / 2 && delay <= ceiling, `${delay} of ${ceiling}`);
      },
    ),
  );
  const drawn = new Set(Array.from({ length: 20 }, () => backoffDelay(5)));
  assert.ok(drawn.size > 10, "the jitter is not one");
});
