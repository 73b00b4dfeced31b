import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import type { TcpStream } from "./stack.ts";
import { Pair, random } from "./testing.ts";

/** Writes `size` bytes in pieces of up to `piece` with regard for back-pressure, then ends; returns their hash. */
function pour(stream: TcpStream, size: number, piece: number, seed: number): string {
  const chance = random(seed);
  const hash = createHash("sha256");
  let left = size;
  const go = () => {
    for (;;) {
      if (left === 0) {
        stream.end();
        return;
      }
      const bytes = Buffer.allocUnsafe(Math.min(left, 1 + Math.floor(chance() * piece)));
      for (let i = 0; i < bytes.length; i++) bytes[i] = chance() * 256;
      left -= bytes.length;
      hash.update(bytes);
      if (!stream.write(bytes)) {
        stream.once("drain", go);
        return;
      }
    }
  };
  const whole = createHash("sha256");
  const again = random(seed);
  for (let rest = size; rest > 0; ) {
    const bytes = Buffer.allocUnsafe(Math.min(rest, 1 + Math.floor(again() * piece)));
    for (let i = 0; i < bytes.length; i++) bytes[i] = again() * 256;
    rest -= bytes.length;
    whole.update(bytes);
  }
  go();
  return whole.digest("hex");
}

function drink(stream: TcpStream): { closed: boolean; error?: Error; digest: string; bytes: number } {
  const hash = createHash("sha256");
  const result: ReturnType<typeof drink> = { closed: false, digest: "", bytes: 0 };
  stream.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    result.bytes += chunk.length;
  });
  stream.on("end", () => {
    result.digest = hash.digest("hex");
  });
  stream.on("error", (error) => {
    result.error = error;
  });
  stream.on("close", () => {
    result.closed = true;
  });
  return result;
}

const weather = fc.record({
  loss: fc.constantFrom(0, 0, 0.01, 0.05, 0.15),
  duplicate: fc.constantFrom(0, 0.02, 0.2),
  delay: fc.constantFrom(0, 1, 20),
  jitter: fc.constantFrom(0, 0, 1, 15),
  seed: fc.integer(),
});

test("through any weather all bytes arrive once and in order, both sides close, and nothing is left", async () => {
  await fc.assert(
    fc.asyncProperty(
      weather,
      fc.record({
        up: fc.integer({ min: 0, max: 300_000 }),
        down: fc.integer({ min: 0, max: 300_000 }),
        piece: fc.constantFrom(7, 1_000, 30_000, 200_000),
        receive: fc.constantFrom(4 << 20, 65_536, 5_000),
      }),
      async (sky, { up, down, piece, receive }) => {
        const small = piece === 7 ? 50 : 1;
        const net = new Pair({ weather: sky, limits: { receive } });
        let server: ReturnType<typeof drink> | undefined;
        let downHash = "";
        net.b.listen(80, (stream) => {
          stream.allowHalfOpen = true;
          server = drink(stream);
          downHash = pour(stream, Math.ceil(down / small), piece, 2);
        });
        const connecting = net.a.connect("fd00::b", 80);
        let stream: TcpStream | undefined;
        connecting.then((made) => {
          stream = made;
        });
        await net.until(() => stream !== undefined);
        assert.ok(stream);
        stream.allowHalfOpen = true;
        const client = drink(stream);
        const upHash = pour(stream, Math.ceil(up / small), piece, 1);
        await net.until(() => client.closed && server?.closed === true);
        assert.equal(client.error, undefined);
        assert.equal(server?.error, undefined);
        assert.equal(server?.digest, upHash);
        assert.equal(client.digest, downHash);
        await net.until(() => net.a.size === 0 && net.b.size === 0);
        await net.pass(200);
        assert.equal(net.clock.pending, 0);
        net.close();
      },
    ),
    { numRuns: Number(process.env.RUNS ?? 40) },
  );
});
