import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FrameReader } from "./websocket.ts";

/** A frame as a client sends it. */
function frame({ opcode, final = true, payload }: { opcode: number; final?: boolean; payload: Uint8Array }): Buffer {
  const mask = Buffer.from([1, 2, 3, 4]);
  const size = payload.length;
  const head = size < 126 ? Buffer.from([0, size]) : Buffer.from([0, 126, size >> 8, size & 255]);
  head[0] = (final ? 0x80 : 0) | opcode;
  head[1]! |= 0x80;
  return Buffer.concat([head, mask, payload.map((byte, at) => byte ^ mask[at & 3]!)]);
}
/** Feeds bytes in pieces of `size`. */
function feed(bytes: Buffer, size: number) {
  const reader = new FrameReader();
  const out: { opcode: number; payload: Buffer }[] = [];
  for (let at = 0; at < bytes.length; at += size) out.push(...reader.push(bytes.subarray(at, at + size)));
  return out;
}

test("messages come through whole, however they are cut into fragments and packets", () => {
  const message = fc.record({
    opcode: fc.constantFrom(1, 2),
    parts: fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 4 }),
    ping: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 4 }), fc.integer({ min: 1, max: 400 }), (messages, size) => {
      const wire: Buffer[] = [];
      const wanted: { opcode: number; payload: Buffer }[] = [];
      for (const { opcode, parts, ping } of messages) {
        for (const [at, payload] of parts.entries()) {
          wire.push(frame({ opcode: at === 0 ? opcode : 0, final: at === parts.length - 1, payload }));
          if (ping && at === 0) {
            wire.push(frame({ opcode: 9, payload: Buffer.from("?") }));
            if (parts.length > 1) wanted.push({ opcode: 9, payload: Buffer.from("?") });
          }
        }
        wanted.push({ opcode, payload: Buffer.concat(parts) });
        if (ping && parts.length === 1) wanted.push({ opcode: 9, payload: Buffer.from("?") });
      }
      assert.deepEqual(feed(Buffer.concat(wire), size), wanted);
    }),
  );
});

test("what RFC 6455 forbids is refused", () => {
  const empty = new Uint8Array();
  for (const [what, bytes] of [
    ["no mask", Buffer.from([0x82, 0])],
    ["a reserved bit", Buffer.from([0xc2, 0x80, 0, 0, 0, 0])],
    ["a length beyond the limit", Buffer.from([0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0])],
    ["a fragment of nothing", frame({ opcode: 0, payload: empty })],
    [
      "a message within another",
      Buffer.concat([frame({ opcode: 2, final: false, payload: empty }), frame({ opcode: 2, payload: empty })]),
    ],
    ["a long ping", frame({ opcode: 9, payload: new Uint8Array(126) })],
    ["a ping in fragments", frame({ opcode: 9, final: false, payload: empty })],
  ] as const)
    assert.throws(() => feed(bytes, 1000), RangeError, what);
  const endless = Array.from({ length: 40 }, (_, at) =>
    frame({ opcode: at === 0 ? 2 : 0, final: false, payload: new Uint8Array(60_000) }),
  );
  assert.throws(() => feed(Buffer.concat(endless), 65_536), /too large/);
});

test("any bytes are frames or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 50 }), (bytes, size) => {
      try {
        feed(Buffer.from(bytes), size);
      } catch (error) {
        assert.ok(error instanceof RangeError, String(error));
      }
    }),
  );
});
