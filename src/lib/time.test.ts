import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { abortable, sleep } from "./abort.ts";
import { backoffDelay } from "./backoff.ts";
import { ManualClock, systemClock } from "./clock.ts";

test("a manual clock fires what falls due, in order of time and then of setting, at its time", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: -5, max: 100 }), fc.boolean()), { maxLength: 20 }),
      fc.array(fc.nat(60), { maxLength: 5 }),
      (timers, moves) => {
        const clock = new ManualClock(1000);
        const fired: [number, number][] = [];
        const expected: [number, number][] = [];
        for (const [index, [delay, cancelled]] of timers.entries()) {
          const timer = clock.after(delay, () => fired.push([clock.monotonic(), index]));
          if (cancelled) timer.cancel();
          else expected.push([Math.max(0, delay), index]);
        }
        let at = 0;
        for (const move of moves) {
          clock.advance(move);
          at += move;
          assert.equal(clock.monotonic(), at);
          assert.equal(clock.now(), 1000 + at);
        }
        const due = expected
          .filter(([time]) => moves.length > 0 && time <= at)
          .sort(([a, x], [b, y]) => a - b || x - y);
        assert.deepEqual(fired, due);
        assert.equal(clock.pending, expected.length - due.length);
      },
    ),
  );
});

test("timers that set timers, and calls that move the clock, keep time going forward", () => {
  const clock = new ManualClock();
  const seen: number[] = [];
  const again = () => {
    seen.push(clock.monotonic());
    if (seen.length < 5) clock.after(10, again);
  };
  clock.after(10, again);
  clock.advance(45);
  assert.deepEqual(seen, [10, 20, 30, 40]);
  clock.after(1, () => clock.advance(100));
  clock.advance(2);
  assert.ok(clock.monotonic() >= 146, `${clock.monotonic()}`);
});

test("the machine's clock does not fire early what is longer than a timer of Node can be", async () => {
  let early = false;
  const long = systemClock.after(2 ** 31 + 10, () => {
    early = true;
  });
  const short = Promise.withResolvers<void>();
  // Two turns of the loop with a timer each: what fires at once would have fired. Held open, since these timers hold nothing.
  const hold = setInterval(() => {}, 1000);
  systemClock.after(2, () => systemClock.after(2, short.resolve));
  await short.promise;
  clearInterval(hold);
  long.cancel();
  assert.equal(early, false);
});

test("the machine's clock: cancelled timers do not fire, monotonic time does not go back", async () => {
  let fired = false;
  systemClock
    .after(0, () => {
      fired = true;
    })
    .cancel();
  const done = Promise.withResolvers<void>();
  const hold = setInterval(() => {}, 1000);
  const before = systemClock.monotonic();
  systemClock.after(1, done.resolve);
  await done.promise;
  clearInterval(hold);
  assert.equal(fired, false);
  assert.ok(systemClock.monotonic() > before);
});

test("backoff: between half and all of a ceiling that doubles up to its most, for any attempt", () => {
  fc.assert(
    fc.property(
      fc.nat(5000),
      fc.integer({ min: 1, max: 10_000 }),
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      (attempt, initial, max, chance) => {
        const delay = backoffDelay(attempt, { initial, max, random: () => chance });
        const ceiling = Math.min(max, initial * 2 ** Math.min(attempt, 30));
        assert.ok(delay >= ceiling / 2 && delay <= ceiling, `${delay} of ${ceiling}`);
        assert.ok(Number.isFinite(delay));
      },
    ),
  );
  const defaults = Array.from({ length: 20 }, (_, attempt) => backoffDelay(attempt, { random: () => 0 }));
  assert.deepEqual(defaults.slice(0, 3), [50, 100, 200]);
  assert.equal(defaults.at(-1), 15_000);
});

test("sleep ends with its time or with the signal, and leaves no timer and no listener", async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  const reason = new Error("enough");
  const slept = sleep(100, clock, stop.signal);
  clock.advance(100);
  await slept;
  const stopped = sleep(100, clock, stop.signal);
  stop.abort(reason);
  await assert.rejects(stopped, reason);
  assert.equal(clock.pending, 0);
  await assert.rejects(sleep(100, clock, stop.signal), reason);
  assert.equal(clock.pending, 0);
});

test("abortable: whoever is first, and a promise that fails later harms nobody", async () => {
  const reason = new Error("enough");
  const signal = () => {
    const stop = new AbortController();
    return { stop: () => stop.abort(reason), signal: stop.signal };
  };
  const one = signal();
  assert.equal(await abortable(Promise.resolve(1), one.signal), 1);
  await assert.rejects(abortable(Promise.reject(new Error("own")), one.signal), { message: "own" });
  const never = abortable(new Promise(() => {}), one.signal);
  one.stop();
  await assert.rejects(never, reason);
  // Unhandled, these would end the process: node:test would fail the file.
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);
  process.on("unhandledRejection", note);
  const late = Promise.withResolvers<void>();
  await assert.rejects(abortable(late.promise, one.signal), reason);
  const two = signal();
  const pending = Promise.withResolvers<void>();
  const waiting = abortable(pending.promise, two.signal);
  two.stop();
  await assert.rejects(waiting, reason);
  late.reject(new Error("too late"));
  pending.reject(new Error("too late"));
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", note);
  assert.deepEqual(unhandled, []);
  assert.equal(await abortable(Promise.resolve(2)), 2);
});
