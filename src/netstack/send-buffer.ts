const BLOCK = 16_384;
const SPARE = 64;
/** Blocks given back, shared by all connections: an idle connection owns none. */
const spare: Buffer[] = [];

/**
 * Bytes written and not yet acknowledged, in blocks of 16 KiB: any offset is found at once, and a block goes back to a
 * shared pool as soon as it is acknowledged. Bytes are copied in, because a writer may reuse its buffer once its
 * write callback ran, which is long before the acknowledgement.
 */
export class SendBuffer {
  #blocks: Buffer[] = [];
  /** Bytes of the first block that are gone. */
  #head = 0;
  /** Bytes held. */
  length = 0;

  append(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; ) {
      const end = this.#head + this.length;
      const room = end % BLOCK;
      if (end === this.#blocks.length * BLOCK) this.#blocks.push(spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK));
      const count = Math.min(to - at, BLOCK - room);
      this.#blocks.at(-1)!.set(bytes.subarray(at, at + count), room);
      this.length += count;
      at += count;
    }
  }

  /** Copies `count` bytes from `offset` (0 = oldest held) into `target` at `at`. */
  copy(offset: number, count: number, target: Buffer, at: number): void {
    let from = this.#head + offset;
    for (let left = count, to = at; left > 0; ) {
      const start = from % BLOCK;
      const part = Math.min(left, BLOCK - start);
      this.#blocks[Math.floor(from / BLOCK)]!.copy(target, to, start, start + part);
      from += part;
      to += part;
      left -= part;
    }
  }

  /** Lets go of the oldest `count` bytes. */
  release(count: number): void {
    this.#head += count;
    this.length -= count;
    const gone = this.length === 0 ? this.#blocks.length : Math.floor(this.#head / BLOCK);
    if (gone === 0) return;
    for (const block of this.#blocks.splice(0, gone)) if (spare.length < SPARE) spare.push(block);
    this.#head = this.length === 0 ? 0 : this.#head - gone * BLOCK;
  }

  clear(): void {
    this.release(this.length);
  }
}
