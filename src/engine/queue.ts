import { backoffDelay } from "#lib/backoff.ts";
import type { Clock, Timer } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";

/** A key that fails, and since when. */
export interface Failing {
  readonly key: string;
  readonly error: string;
  /** Milliseconds since the Unix epoch. */
  readonly since: number;
  readonly attempts: number;
}

/** How a {@link KeyedQueue} works. */
export interface QueueOptions {
  readonly clock: Clock;
  /** Keys at once. */
  readonly concurrency: number;
  readonly work: (key: string, again: (ms: number) => void) => Promise<void>;
  /** Told after each try. */
  readonly onDone?: (key: string, error: unknown | undefined, milliseconds: number) => void;
}

/**
 * Works on keys: a key is never worked on twice at once, is remembered when it comes again meanwhile, and after a throw is tried
 * again alone, later and later. Only keys that wait for a time hold a timer.
 */
export class KeyedQueue {
  readonly #options: QueueOptions;
  readonly #ready = new Set<string>();
  readonly #running = new Set<string>();
  /** Came again while running. */
  readonly #dirty = new Set<string>();
  readonly #timers = new Map<string, Timer>();
  readonly #failing = new Map<string, Failing>();
  #scheduled = false;
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Keys waiting for their turn, those on a timer not counted. */
  get queued(): number {
    return this.#ready.size + this.#dirty.size;
  }
  get running(): number {
    return this.#running.size;
  }
  /** How many keys' last try failed. */
  get failures(): number {
    return this.#failing.size;
  }
  /** Keys whose last try failed, the longest failing first, at most `limit`. */
  failing(limit: number): readonly Failing[] {
    return this.#failing.values().take(limit).toArray();
  }

  add(key: string): void {
    if (this.#stopped) return;
    this.#cancel(key);
    if (this.#running.has(key)) this.#dirty.add(key);
    else {
      this.#ready.add(key);
      this.#schedule();
    }
  }

  /** Ends: no key starts any more; resolves when the running ones are done. */
  stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.#ready.clear();
    this.#dirty.clear();
    return this.#running.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      for (const key of this.#ready) {
        if (this.#running.size >= this.#options.concurrency) return;
        this.#ready.delete(key);
        void this.#run(key);
      }
    });
  }

  async #run(key: string): Promise<void> {
    const { clock, work, onDone } = this.#options;
    this.#running.add(key);
    const started = clock.monotonic();
    let later: number | undefined;
    let failure: unknown;
    try {
      await work(key, (ms) => {
        later = Math.min(later ?? Number.POSITIVE_INFINITY, ms);
      });
      this.#failing.delete(key);
    } catch (error) {
      failure = error ?? new Error("failed without a word");
      const before = this.#failing.get(key);
      const attempts = (before?.attempts ?? 0) + 1;
      this.#failing.set(key, { key, error: messageOf(failure), since: before?.since ?? clock.now(), attempts });
      later = backoffDelay(attempts - 1);
    }
    onDone?.(key, failure, clock.monotonic() - started);
    this.#running.delete(key);
    // A change that came meanwhile may be what a failed try waits for.
    if (this.#dirty.delete(key)) this.#ready.add(key);
    else if (later !== undefined && !this.#stopped) this.#later(key, later);
    if (this.#running.size === 0) for (const done of this.#idle.splice(0)) done();
    if (!this.#stopped) this.#schedule();
  }

  #later(key: string, ms: number): void {
    this.#cancel(key);
    this.#timers.set(
      key,
      this.#options.clock.after(ms, () => this.add(key)),
    );
  }

  #cancel(key: string): void {
    this.#timers.get(key)?.cancel();
    this.#timers.delete(key);
  }
}
