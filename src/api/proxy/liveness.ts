import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";

/** Silence before the first byte of an answer, and later, after which an endpoint is asked whether it is still there. */
const firstSilence = 8000;
const laterSilence = 60_000;

/**
 * Cuts connections whose other end is gone. A machine that loses power says nothing, and neither does a watch on which nothing happens:
 * so when one is silent, a new connection is tried, one for all that wait for the same machine. Nothing is asked where bytes flow.
 */
export class Liveness {
  readonly #clock: Clock;
  readonly #probe: (address: string) => Promise<void>;
  readonly #probing = new Map<string, Promise<boolean>>();

  /** `probe` throws when a new connection cannot be opened. */
  constructor(clock: Clock, probe: (address: string) => Promise<void>) {
    this.#clock = clock;
    this.#probe = probe;
  }

  /**
   * Guards one request. `bytes` is what its connection has received in all; `cut` ends the connection. Answers how to stop, when the
   * request is over.
   */
  guard(address: string, bytes: () => number, cut: (error: IchorError) => void): () => void {
    let seen = bytes();
    let over = false;
    const arm = (silence: number) =>
      this.#clock.after(silence, async () => {
        const now = bytes();
        const silent = now === seen;
        seen = now;
        if (silent && !(await this.#answers(address)) && !over)
          cut(new IchorError("unavailable", `the machine at ${address} does not answer any more`));
        if (!over) timer = arm(laterSilence);
      });
    let timer = arm(firstSilence);
    return () => {
      over = true;
      timer.cancel();
    };
  }

  #answers(address: string): Promise<boolean> {
    let probing = this.#probing.get(address);
    if (!probing) {
      probing = this.#probe(address)
        .then(
          () => true,
          () => false,
        )
        .finally(() => this.#probing.delete(address));
      this.#probing.set(address, probing);
    }
    return probing;
  }
}
