import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { ManualClock } from "#lib/clock.ts";
import { parseIP } from "#lib/ip.ts";
import { upperChecksum } from "./checksum.ts";
import { writeIPv6 } from "./ipv6.ts";
import { Stack, type TcpStream } from "./stack.ts";
import { Pair, random } from "./testing.ts";

const here = parseIP("fd00::a");
const there = parseIP("fd00::b");

function packet(protocol: number, payload: Uint8Array, options: { checksum?: number; from?: Uint8Array } = {}): Buffer {
  const bytes = Buffer.alloc(40 + payload.length);
  bytes.set(payload, 40);
  writeIPv6(bytes, protocol, options.from ?? there, here);
  const at = 40 + (options.checksum ?? 0);
  if (options.checksum !== undefined && at + 2 <= bytes.length) {
    bytes.writeUInt16BE(0, at);
    bytes.writeUInt16BE(upperChecksum(bytes, 40, bytes.length, protocol), at);
  }
  return bytes;
}

/** A stack with a listener whose streams read and answer. */
function target(clock: ManualClock, sent: Uint8Array[]): Stack {
  const stack = new Stack({
    address: "fd00::a",
    clock,
    send: (bytes) => sent.push(bytes),
    limits: { backlog: 8, connections: 50, timeWait: 5 },
  });
  stack.listen(80, (stream) => {
    stream.on("error", () => {});
    stream.pipe(stream);
  });
  return stack;
}

const bytes = fc.uint8Array({ minLength: 0, maxLength: 120 });

test("any bytes are survived", async () => {
  const clock = new ManualClock();
  const sent: Uint8Array[] = [];
  const stack = target(clock, sent);
  fc.assert(
    fc.property(bytes, (junk) => stack.input(junk)),
    { numRuns: 1_000 },
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), bytes, (protocol, junk) => stack.input(packet(protocol, junk))),
    { numRuns: 1_000 },
  );
  fc.assert(
    fc.property(bytes, (junk) => stack.input(packet(58, junk, { checksum: 2 }))),
    { numRuns: 1_000 },
  );
  assert.equal(stack.size, 0);
  stack.close();
});

test("segments of any content leave tables and answers bounded", async () => {
  const clock = new ManualClock();
  const sent: Uint8Array[] = [];
  const stack = target(clock, sent);
  const segment = fc
    .record({
      source: fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 40_000),
      target: fc.constantFrom(80, 80, 80, 81, 0),
      seq: fc.constantFrom(0, 1, 2, 1000, 0x7fffffff, 0x80000000, 0xffffffff),
      guess: fc.boolean(),
      ack: fc.constantFrom(0, 1, 0xffffffff),
      offset: fc.constantFrom(5, 5, 5, 6, 10, 15, 0),
      flags: fc.integer({ min: 0, max: 63 }),
      window: fc.constantFrom(0, 1, 65_535),
      rest: bytes,
      from: fc.integer({ min: 1, max: 255 }),
    })
    .map((f) => {
      const tcp = Buffer.alloc(20 + f.rest.length);
      tcp.writeUInt16BE(f.source, 0);
      tcp.writeUInt16BE(f.target, 2);
      tcp.writeUInt32BE(f.seq, 4);
      // Half of them acknowledge what the stack last said, so that they get beyond the handshake.
      const last = sent.at(-1);
      tcp.writeUInt32BE(f.guess && last ? (Buffer.from(last).readUInt32BE(44) + 1) >>> 0 : f.ack, 8);
      tcp[12] = f.offset << 4;
      tcp[13] = f.flags;
      tcp.writeUInt16BE(f.window, 14);
      tcp.set(f.rest, 20);
      return packet(6, tcp, { checksum: 16, from: Uint8Array.from([...there.subarray(0, 15), f.from & 3]) });
    });
  await fc.assert(
    fc.asyncProperty(fc.array(segment, { maxLength: 40 }), async (segments) => {
      for (const one of segments) {
        const before = sent.length;
        stack.input(one);
        assert.ok(sent.length - before <= 1, "a packet is answered by one at most");
      }
      await turn();
      clock.advance(500);
      await turn();
      assert.ok(stack.size <= 55, `${stack.size} connections`);
      sent.splice(0, sent.length - 1);
    }),
    { numRuns: 400 },
  );
  clock.advance(400_000);
  await turn();
  stack.close();
  await turn();
  assert.equal(clock.pending, 0);
});

test("mutated packets never break a stack or smuggle in bytes; those that reach us unharmed do arrive", async () => {
  for (let seed = 1; seed <= 25; seed++) {
    const chance = random(seed);
    const net = new Pair();
    const mutate = (bytes: Uint8Array) => {
      const copy = Uint8Array.from(bytes);
      for (let n = 1 + chance() * 3; n > 0; n--) copy[Math.floor(chance() * copy.length)] = chance() * 256;
      const end = chance() < 0.2 ? Math.floor(chance() * copy.length) : copy.length;
      return copy.subarray(0, end);
    };
    net.filter = (bytes, from) => {
      const mutated = chance() < 0.3 ? mutate(bytes) : undefined;
      if (mutated) net.clock.after(0, () => (from === "a" ? net.b : net.a).input(mutated));
      return chance() > 0.05;
    };
    let echoed = "";
    let ended = false;
    net.b.listen(80, (stream) => {
      stream.on("error", () => {});
      stream.pipe(stream);
    });
    const text = "the quick brown fox ".repeat(5_000);
    let client: TcpStream | undefined;
    net.a.connect("fd00::b", 80).then((stream) => {
      client = stream;
      stream.allowHalfOpen = true;
      stream.on("data", (chunk) => {
        echoed += chunk;
      });
      stream.on("end", () => {
        ended = true;
      });
      stream.end(text);
    });
    await net.until(() => ended);
    assert.ok(client);
    assert.equal(echoed, text);
    net.close();
  }
});

test("mutations with a right checksum, as only the peer itself can make, break no invariant", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const chance = random(seed * 7919);
    const net = new Pair({ limits: { receive: 50_000, connections: 10 } });
    net.filter = (bytes, from) => {
      if (bytes[6] === 6 && chance() < 0.1) {
        const copy = Uint8Array.from(bytes);
        for (let n = 1 + chance() * 2; n > 0; n--)
          copy[44 + Math.floor(chance() * Math.min(60, copy.length - 44))] = chance() * 256;
        copy[56] = 0;
        copy[57] = 0;
        const sum = upperChecksum(copy, 40, copy.length, 6);
        copy[56] = sum >> 8;
        copy[57] = sum;
        net.clock.after(0, () => (from === "a" ? net.b : net.a).input(copy));
      }
      return true;
    };
    let done = false;
    let most = 0;
    net.b.listen(80, (stream) => {
      stream.on("error", () => {});
      stream.on("data", () => {
        most = Math.max(most, stream.readableLength);
      });
      stream.on("close", () => {
        done = true;
      });
    });
    net.a.connect("fd00::b", 80).then(
      (stream) => {
        stream.on("error", () => {});
        stream.on("close", () => {
          done = true;
        });
        stream.resume();
        stream.end(Buffer.alloc(200_000));
      },
      () => {
        done = true;
      },
    );
    await net.until(() => done, 3_600_000);
    assert.ok(most <= 120_000);
    assert.ok(net.a.size <= 10 && net.b.size <= 10);
    net.close();
    await turn();
    net.clock.advance(100);
    assert.equal(net.clock.pending, 0);
  }
});
