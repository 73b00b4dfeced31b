const BETA = 0.7;
const C = 0.4;

/**
 * Congestion window in bytes, CUBIC (RFC 9438) with slow start and the Reno-friendly region; initial window of ten
 * segments (RFC 6928). Time in milliseconds.
 */
export class Cubic {
  cwnd: number;
  ssthresh = Number.POSITIVE_INFINITY;
  mss: number;
  #wMax = 0;
  #k = 0;
  /** Start of the current avoidance epoch; -1 when none runs. */
  #epoch = -1;
  #origin = 0;
  #reno = 0;
  /** What the last reduction took, to give it back. */
  #before = { cwnd: 0, ssthresh: 0, wMax: 0 };

  constructor(mss: number) {
    this.mss = mss;
    this.cwnd = 10 * mss;
  }

  /** The handshake told the segment size. */
  begin(mss: number): void {
    this.mss = mss;
    this.cwnd = 10 * mss;
  }

  /** `acked` bytes left the network, while the window was what held us back. */
  acknowledged(acked: number, now: number, srtt: number): void {
    if (this.cwnd < this.ssthresh) {
      this.cwnd = Math.min(this.cwnd + acked, Math.max(this.ssthresh, this.cwnd));
      return;
    }
    if (this.#epoch < 0) {
      this.#epoch = now;
      this.#reno = this.cwnd;
      this.#origin = Math.max(this.cwnd, this.#wMax);
      this.#k = Math.cbrt((this.#origin - this.cwnd) / this.mss / C);
    }
    const t = (now - this.#epoch + srtt) / 1000;
    const cubic = this.#origin + C * (t - this.#k) ** 3 * this.mss;
    const alpha = this.#reno < this.#wMax ? (3 * (1 - BETA)) / (1 + BETA) : 1;
    this.#reno += (alpha * acked * this.mss) / this.cwnd;
    const target = Math.max(this.#reno, Math.min(cubic, 1.5 * this.cwnd));
    if (target > this.cwnd) this.cwnd += Math.min(acked, ((target - this.cwnd) * acked) / this.cwnd);
  }

  /** A loss was found by duplicate acknowledgements or SACK. */
  lost(): void {
    this.#reduce();
    this.cwnd = this.ssthresh;
  }

  /** The retransmission timer expired; `first` for the first time on this data. */
  expired(first: boolean): void {
    if (first) this.#reduce();
    this.cwnd = this.mss;
  }

  /** The last reduction was for a loss that was none. */
  undo(): void {
    this.cwnd = Math.max(this.cwnd, this.#before.cwnd);
    this.ssthresh = this.#before.ssthresh;
    this.#wMax = this.#before.wMax;
    this.#epoch = -1;
  }

  /** Nothing was sent for longer than a timeout: old knowledge of the path is stale (RFC 5681 4.1). */
  idle(): void {
    this.cwnd = Math.min(this.cwnd, 10 * this.mss);
    this.#epoch = -1;
  }

  #reduce(): void {
    this.#before = { cwnd: this.cwnd, ssthresh: this.ssthresh, wMax: this.#wMax };
    this.#epoch = -1;
    // Fast convergence: leave room to a newcomer when the window shrinks from loss to loss.
    this.#wMax = this.cwnd < this.#wMax ? (this.cwnd * (1 + BETA)) / 2 : this.cwnd;
    this.ssthresh = Math.max(this.cwnd * BETA, 2 * this.mss);
  }
}
