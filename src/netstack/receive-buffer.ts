const SLAB = 65_536;
/** Shared by all connections, so that an idle one owns nothing; replaced when full. */
let slab = Buffer.allocUnsafeSlow(SLAB);
let used = 0;

/**
 * Bytes in order that wait for their reader. They are copied out of their packets, one after another: a batch of packets
 * becomes one chunk for the reader, and a flood of tiny segments costs no more than its bytes.
 */
export class ReceiveBuffer {
  #chunks: Buffer[] = [];
  /** The last chunk, still growing: `tail[from, to)`. */
  #tail: Buffer | undefined;
  #from = 0;
  #to = 0;
  /** Bytes held. */
  length = 0;

  append(bytes: Uint8Array, start: number, end: number): void {
    this.length += end - start;
    for (let at = start; at < end; ) {
      if (used === SLAB) {
        slab = Buffer.allocUnsafeSlow(SLAB);
        used = 0;
      }
      if (this.#tail !== slab || this.#to !== used) {
        this.#seal();
        this.#tail = slab;
        this.#from = used;
      }
      const count = Math.min(end - at, SLAB - used);
      slab.set(at === 0 && count === bytes.length ? bytes : bytes.subarray(at, at + count), used);
      used += count;
      at += count;
      this.#to = used;
    }
  }

  /** Takes the oldest chunk; undefined when there is none. */
  take(): Buffer | undefined {
    if (this.#chunks.length === 0) this.#seal();
    const chunk = this.#chunks.shift();
    if (chunk) this.length -= chunk.length;
    return chunk;
  }

  clear(): void {
    this.#chunks = [];
    this.#tail = undefined;
    this.length = 0;
  }

  #seal(): void {
    if (this.#tail) this.#chunks.push(this.#tail.subarray(this.#from, this.#to));
    this.#tail = undefined;
  }
}
