/** A pending call of a {@link Clock}. `cancel` after it fired does nothing. */
export interface Timer {
  cancel(): void;
}

/** Time as the code sees it; injected so that tests can own it. */
export interface Clock {
  /** Wall time, milliseconds since the Unix epoch. */
  now(): number;
  /** Milliseconds from an arbitrary start; never goes back, even when the wall clock is set. */
  monotonic(): number;
  /** Calls `fn` once after `delay` milliseconds (0 = on the next turn). Does not keep the process alive. */
  after(delay: number, fn: () => void): Timer;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delay, fn) {
    let timer: NodeJS.Timeout;
    // Node fires at once what is longer than it can count: 24.8 days.
    const wait = (left: number) => {
      const next = Math.min(left, longestTimeout);
      timer = setTimeout(() => (left > next ? wait(left - next) : fn()), next);
      timer.unref();
    };
    wait(delay);
    return { cancel: () => clearTimeout(timer) };
  },
};
const longestTimeout = 2 ** 31 - 1;

/**
 * A clock that moves only when told: for tests and simulations. Starts at wall time `start` (default 2026-01-01).
 */
export class ManualClock implements Clock {
  #now: number;
  #elapsed = 0;
  #next = 0;
  readonly #timers = new Map<number, { at: number; fn: () => void }>();

  constructor(start: number = Date.UTC(2026, 0, 1)) {
    this.#now = start;
  }
  now(): number {
    return this.#now + this.#elapsed;
  }
  monotonic(): number {
    return this.#elapsed;
  }
  after(delay: number, fn: () => void): Timer {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#elapsed + Math.max(0, delay), fn });
    return { cancel: () => void this.#timers.delete(id) };
  }
  /** Number of calls still pending: a test asserts that nothing leaks. */
  get pending(): number {
    return this.#timers.size;
  }
  /** Moves on by `ms`, firing what falls due in order of time, also timers set by those. */
  advance(ms: number): void {
    const end = this.#elapsed + ms;
    for (;;) {
      let due: [number, { at: number; fn: () => void }] | undefined;
      for (const entry of this.#timers) if (entry[1].at <= end && (!due || entry[1].at < due[1].at)) due = entry;
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#elapsed = Math.max(this.#elapsed, due[1].at);
      due[1].fn();
    }
    // What fired may have moved the clock itself.
    this.#elapsed = Math.max(this.#elapsed, end);
  }
}
