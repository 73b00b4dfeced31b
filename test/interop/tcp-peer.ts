// A program for the far end: TCP of the kernel, through Node. Sends and hashes the same deterministic bytes that the tests do.
import { createHash } from "node:crypto";
import { connect, createServer } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";

/** What went through a stream in one direction. */
export interface Tally {
  readonly bytes: number;
  readonly sha256: string;
}

/** `size` bytes that repeat nowhere near: a lost, doubled or moved piece changes the hash. */
export function* pattern(seed: number, size: number): Generator<Buffer> {
  let state = seed >>> 0 || 1;
  for (let left = size; left > 0; ) {
    const chunk = Buffer.allocUnsafe(Math.min(left, 65_536));
    for (let i = 0; i < chunk.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      chunk[i] = state;
    }
    left -= chunk.length;
    yield chunk;
  }
}

/** What is to arrive of a pattern. */
export function expected(seed: number, size: number): Tally {
  const hash = createHash("sha256");
  for (const chunk of pattern(seed, size)) hash.update(chunk);
  return { bytes: size, sha256: hash.digest("hex") };
}

/** Sends a pattern and ends; takes all that comes until the end; both at once. */
export async function exchange(stream: Duplex, seed: number, size: number): Promise<Tally> {
  stream.allowHalfOpen = true;
  const hash = createHash("sha256");
  let bytes = 0;
  const received = (async () => {
    // The other half may still be sending when this one ends.
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  })();
  await Promise.all([received, pipeline(pattern(seed, size), stream)]);
  return { bytes, sha256: hash.digest("hex") };
}

async function main([mode, address = "", port = "", seed = "", size = ""]: string[]): Promise<void> {
  const say = (tally: Tally) => console.log(JSON.stringify(tally));
  if (mode === "connect") {
    const socket = connect({ host: address, port: Number(port), allowHalfOpen: true });
    say(await exchange(socket, Number(seed), Number(size)));
    return;
  }
  const server = createServer({ allowHalfOpen: true }, async (socket) => {
    say(await exchange(socket, Number(seed), Number(size)));
  });
  server.listen(Number(port), address, () => console.log("listening"));
}

if (import.meta.main) await main(process.argv.slice(2));
