import { isDeepStrictEqual } from "node:util";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";

/** Long-running work of one key. Ends when the signal aborts; a throw or an early return starts it again, later and later. */
export type Task<Spec> = (key: string, spec: Spec, signal: AbortSignal, healthy: () => void) => Promise<void>;

/** Keeps one task for each key that should have one: for controllers that hold live connections. */
export class TaskRunner<Spec> {
  readonly #tasks = new Map<string, { spec: Spec; stop: AbortController; done: Promise<void> }>();
  readonly #task: Task<Spec>;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(task: Task<Spec>, clock: Clock, log: Logger) {
    this.#task = task;
    this.#clock = clock;
    this.#log = log;
  }

  get size(): number {
    return this.#tasks.size;
  }

  /** Starts, restarts (when the spec is another) or, without a spec, stops the task of a key. */
  async sync(key: string, spec: Spec | undefined): Promise<void> {
    const running = this.#tasks.get(key);
    if (running && spec !== undefined && isDeepStrictEqual(running.spec, spec)) return;
    if (running) {
      this.#tasks.delete(key);
      running.stop.abort();
      await running.done;
    }
    if (spec === undefined || this.#tasks.has(key)) return;
    const stop = new AbortController();
    this.#tasks.set(key, { spec, stop, done: this.#run(key, spec, stop.signal) });
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#tasks.keys()].map((key) => this.sync(key, undefined)));
  }

  async #run(key: string, spec: Spec, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#task(key, spec, signal, () => {
          failures = 0;
        });
      } catch (error) {
        if (!signal.aborted) this.#log.debug({ id: key, error: messageOf(error) }, "task failed");
      }
      await sleep(backoffDelay(failures), this.#clock, signal).catch(() => {});
    }
  }
}
