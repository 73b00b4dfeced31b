import { IchorError } from "#lib/errors.ts";

/** Length-prefixed messages of gRPC over HTTP/2: one byte of flags, four of length, the message. */
export interface Frame {
  readonly compressed: boolean;
  readonly message: Buffer;
}

/** A message on the wire, not compressed. */
export function encodeFrame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Bytes that several readers may hold together. */
export class Budget {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }
  /** Throws `resource_exhausted`. */
  take(bytes: number): void {
    if (bytes > this.#left)
      throw new IchorError("resource_exhausted", "the messages are too large to be put together: ask fewer nodes");
    this.#left -= bytes;
  }
  give(bytes: number): void {
    this.#left += bytes;
  }
}

/**
 * The frames of a body as they become whole. Each is on the budget until the next one is asked for. Throws `resource_exhausted`, and
 * `data_loss` for a body that ends inside a frame.
 */
export async function* readFrames(body: AsyncIterable<Buffer>, budget: Budget): AsyncGenerator<Frame> {
  let chunks: Buffer[] = [];
  let held = 0;
  try {
    for await (const chunk of body) {
      budget.take(chunk.length);
      chunks.push(chunk);
      held += chunk.length;
      while (held >= 5) {
        const head = peek(chunks, 5);
        const size = 5 + head.readUInt32BE(1);
        if (held < size) break;
        const all = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
        chunks = all.length > size ? [all.subarray(size)] : [];
        yield { compressed: (head[0]! & 1) === 1, message: all.subarray(5, size) };
        held -= size;
        budget.give(size);
      }
    }
    if (held > 0) throw new IchorError("data_loss", "the message ends before its length");
  } finally {
    budget.give(held);
  }
}

/** The first bytes, without joining what may be large. */
function peek(chunks: Buffer[], length: number): Buffer {
  if (chunks[0]!.length < length) chunks.splice(0, chunks.length, Buffer.concat(chunks));
  return chunks[0]!;
}
