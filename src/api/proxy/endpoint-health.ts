import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";

interface Bad {
  readonly failures: number;
  readonly until: number;
}

/** Which endpoints lately failed, learned from use alone. */
export class EndpointHealth {
  readonly #clock: Clock;
  readonly #bad = new Map<string, Bad>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  good(endpoint: string): void {
    this.#bad.delete(endpoint);
  }

  /** Puts it behind the others for a while, longer each time. */
  bad(endpoint: string): void {
    const failures = (this.#bad.get(endpoint)?.failures ?? 0) + 1;
    const delay = backoffDelay(failures - 1, { initial: 2000, max: 60_000 });
    this.#bad.set(endpoint, { failures, until: this.#clock.monotonic() + delay });
  }

  /** The same endpoints, those to be avoided last. None is left out: when all are bad, each is worth a try. */
  order(endpoints: readonly string[]): string[] {
    const now = this.#clock.monotonic();
    const avoided = (endpoint: string) => (this.#bad.get(endpoint)?.until ?? 0) > now;
    return [...endpoints.filter((one) => !avoided(one)), ...endpoints.filter(avoided)];
  }
}
