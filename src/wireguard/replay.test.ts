import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ReplayWindow } from "./replay.ts";
import { timestamp } from "./tai64n.ts";

const size = 255 * 32;

/** The same as a set: a counter is taken once, and not when it lies a window or more behind the highest. */
class Model {
  readonly #seen = new Set<number>();
  #highest = -1;
  accept(counter: number): boolean {
    if (counter + size <= this.#highest || this.#seen.has(counter)) return false;
    this.#seen.add(counter);
    this.#highest = Math.max(this.#highest, counter);
    return true;
  }
}

/** Counters as a network brings them: mostly near the last, some far ahead, some long gone. */
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -40, max: 40 }) },
    { weight: 3, arbitrary: fc.integer({ min: -size - 70, max: size + 70 }) },
    { weight: 1, arbitrary: fc.integer({ min: -30_000, max: 5_000_000 }) },
  ),
  { minLength: 1, maxLength: 300 },
);

test("the window takes what a set of all seen counters would take", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.constant(0), fc.nat(100_000), fc.integer({ min: 2 ** 31, max: 2 ** 51 })),
      steps,
      (start, moves) => {
        const window = new ReplayWindow();
        const model = new Model();
        let at = start;
        for (const move of moves) {
          at = Math.max(0, at + move);
          assert.equal(window.accept(at), model.accept(at), `counter ${at}`);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("every counter of a long run passes once, in whatever order within the window", () => {
  const window = new ReplayWindow();
  let taken = 0;
  for (let block = 0; block < 5; block++) {
    const order = Array.from({ length: size }, (_, index) => block * size + ((index * 4099) % size));
    for (const counter of order) if (window.accept(counter)) taken++;
    for (const counter of order) assert.equal(window.accept(counter), false);
  }
  assert.equal(taken, 5 * size);
});

test("the edge of the window: the last inside passes, the first outside does not", () => {
  const window = new ReplayWindow();
  assert.equal(window.accept(1_000_000), true);
  assert.equal(window.accept(1_000_000 - size + 1), true);
  assert.equal(window.accept(1_000_000 - size), false);
});

test("timestamps only grow, whatever the clock does, and are valid TAI64N", () => {
  let last = Buffer.alloc(12);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_102_444_800_000 }), (now) => {
      const next = Buffer.from(timestamp(now));
      assert.equal(next.length, 12);
      assert.ok(Buffer.compare(next, last) > 0);
      assert.ok(next.readUInt32BE(8) < 1_000_000_000);
      assert.ok(next.readBigUInt64BE(0) >= 2n ** 62n);
      last = next;
    }),
    { numRuns: 1000 },
  );
});
