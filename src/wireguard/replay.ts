const words = 256;
/** Counters that may come out of order: 8,192, less the word that is being filled. */
const window = (words - 1) * 32;

/** Which counters of a session were seen (RFC 6479): a ring of bits that moves with the highest. */
export class ReplayWindow {
  readonly #bits = new Uint32Array(words);
  #highest = -1;

  /** Whether the counter is new; marks it seen. Call only for authenticated packets. */
  accept(counter: number): boolean {
    if (counter + window <= this.#highest) return false;
    const word = Math.floor(counter / 32);
    if (counter > this.#highest) {
      const last = Math.floor(Math.max(this.#highest, 0) / 32);
      const clear = Math.min(word - last, words);
      for (let step = 1; step <= clear; step++) this.#bits[(last + step) % words] = 0;
      this.#highest = counter;
    }
    const bit = 1 << (counter % 32);
    if (this.#bits[word % words]! & bit) return false;
    this.#bits[word % words]! |= bit;
    return true;
  }
}
