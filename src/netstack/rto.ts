const MIN = 200;
const MAX = 60_000;
const INITIAL = 1_000;

/** Retransmission timeout as RFC 6298, in milliseconds, with the lower bound of 200 ms that other stacks use too. */
export class Rto {
  /** Smoothed round-trip time; 0 before the first sample. */
  srtt = 0;
  #variation = 0;
  #backoff = 0;

  /** A round trip took `rtt` ms. */
  sample(rtt: number): void {
    const value = Math.max(rtt, 0.1);
    if (this.srtt === 0) {
      this.srtt = value;
      this.#variation = value / 2;
    } else {
      this.#variation += (Math.abs(this.srtt - value) - this.#variation) / 4;
      this.srtt += (value - this.srtt) / 8;
    }
  }

  /** The timer expired: the next one takes twice as long. */
  backOff(): void {
    if (this.#backoff < 16) this.#backoff++;
  }

  /** New data was acknowledged: ends the backing off. */
  progress(): void {
    this.#backoff = 0;
  }

  get value(): number {
    const base = this.srtt === 0 ? INITIAL : Math.max(MIN, this.srtt + Math.max(1, 4 * this.#variation));
    return Math.min(MAX, base * 2 ** this.#backoff);
  }
}
