import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "#lib/clock.ts";
import { Connection } from "./connection.ts";
import { admit } from "./flush.ts";

test("whatever fractions the congestion window grows by, what is written is kept byte for byte", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 65_536, max: 400_000, noNaN: true }), { minLength: 1, maxLength: 20 }),
      (windows) => {
        const clock = new ManualClock();
        const limits = { receive: 65_536, send: 4 << 20 };
        const host = {
          clock,
          limits,
          local: new Uint8Array(16),
          localAddress: "::",
          mtu: 1280,
        } as unknown as Connection["host"];
        const at = { remote: new Uint8Array(16), remoteAddress: "::", localPort: 1, remotePort: 2, active: true };
        const c = new Connection(host, at, { iss: 0, tsOffset: 0, mss: 1208, now: 0 });
        const written = Buffer.alloc(1 << 20);
        for (let i = 0; i < written.length; i += 4) written.writeUInt32LE((i * 2654435761) >>> 0, i);
        c.waiting = { chunks: [written], index: 0, at: 0, done: () => {} };
        let taken = 0;
        for (const window of windows) {
          c.congestion.cwnd = window;
          admit(c);
          const count = Math.floor(c.out.length / 1208) * 1208;
          const copy = Buffer.alloc(count);
          c.out.copy(0, count, copy, 0);
          assert.ok(copy.equals(written.subarray(taken, taken + count)));
          c.out.release(count);
          taken += count;
        }
        assert.ok(Number.isInteger(c.out.length));
      },
    ),
    { numRuns: 30 },
  );
});
