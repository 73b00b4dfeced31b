import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { Metadata } from "#resource/resource.ts";
import { State } from "#store/state.ts";
import type { Bookmark, Store } from "#store/store.ts";
import { makeContext, restrictReader } from "./context.ts";
import type { Controller, Input } from "./controller.ts";
import { type Failing, KeyedQueue } from "./queue.ts";

/** What an engine runs with. */
export interface EngineOptions {
  readonly store: Store;
  readonly controllers: readonly Controller[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics?: Registry;
}

/** How a controller stands. */
export interface ControllerState {
  readonly name: string;
  readonly purpose: string;
  readonly queued: number;
  readonly running: number;
  readonly reconciles: number;
  readonly failures: number;
  readonly failing: readonly Failing[];
}

interface Running {
  readonly controller: Controller;
  readonly queue: KeyedQueue;
  reconciles: number;
  failures: number;
}

/** The longest time for one key unless the controller says otherwise. */
const defaultTimeout = 120_000;

/**
 * Runs controllers: one watch per kind shared by all, a keyed queue per controller. What a change costs depends on the controllers
 * that it wakes, never on the size of the fleet.
 */
export class Engine {
  readonly #options: EngineOptions;
  readonly #state: State;
  readonly #stop = new AbortController();
  readonly #running: readonly Running[];
  readonly #listeners = new Set<(name: string) => void>();
  #watches: Promise<unknown> = Promise.resolve();

  /** Throws `invalid_argument` when two controllers have one name, or write one kind without sharing it. */
  constructor(options: EngineOptions) {
    this.#options = options;
    this.#state = new State(options.store);
    checkOwners(options.controllers);
    const metrics = options.metrics && makeMetrics(options.metrics);
    this.#running = options.controllers.map((controller) => {
      const running: Running = {
        controller,
        queue: this.#queue(controller, (error, ms) => {
          running.reconciles++;
          if (error !== undefined) {
            running.failures++;
            if (!this.#stop.signal.aborted)
              options.log.warn({ controller: controller.name, error: messageOf(error) }, "reconcile failed");
          }
          metrics?.done(controller.name, error !== undefined, ms, running.queue.queued);
          for (const listener of this.#listeners) listener(controller.name);
        }),
        reconciles: 0,
        failures: 0,
      };
      return running;
    });
  }

  /** Wakes every key that exists, then goes on with changes. */
  start(): void {
    const byKind = new Map<string, { kind: AnyKind; wakes: { running: Running; input: Input }[] }>();
    for (const running of this.#running) {
      for (const input of running.controller.inputs) {
        const entry = byKind.get(input.kind.type) ?? { kind: input.kind, wakes: [] };
        entry.wakes.push({ running, input });
        byKind.set(input.kind.type, entry);
      }
    }
    this.#watches = Promise.all([...byKind.values()].map(({ kind, wakes }) => this.#watch(kind, wakes)));
    for (const running of this.#running) this.#resync(running);
  }

  /** Stops what runs and closes the controllers. */
  async stop(): Promise<void> {
    this.#stop.abort(new IchorError("aborted", "the plane is stopping"));
    await Promise.all(this.#running.map(({ queue }) => queue.stop()));
    await this.#watches;
    await Promise.all(this.#running.map(({ controller }) => controller.close?.()));
  }

  /** How every controller stands, at most 20 failing keys each. */
  status(): ControllerState[] {
    return this.#running.map(({ controller, queue, reconciles, failures }) => ({
      name: controller.name,
      purpose: controller.purpose,
      queued: queue.queued,
      running: queue.running,
      reconciles,
      failures,
      failing: queue.failing.slice(0, 20),
    }));
  }

  /** Keys of a controller that fail now. */
  failing(name: string): number {
    return this.#running.find(({ controller }) => controller.name === name)?.queue.failing.length ?? 0;
  }

  /** Calls back with a controller's name after each of its reconciles; answers how to stop that. */
  onStatus(listener: (name: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #queue(controller: Controller, onDone: (error: unknown, ms: number) => void): KeyedQueue {
    const { clock, log } = this.#options;
    return new KeyedQueue({
      clock,
      concurrency: controller.concurrency ?? 1,
      onDone: (_key, error, ms) => onDone(error, ms),
      work: async (key, again) => {
        const limit = new AbortController();
        const ms = controller.timeout ?? defaultTimeout;
        const timer = clock.after(ms, () =>
          limit.abort(new IchorError("deadline_exceeded", `took longer than ${ms / 1000} s`)),
        );
        const signal = AbortSignal.any([this.#stop.signal, limit.signal]);
        try {
          await controller.reconcile(
            key,
            makeContext(controller, this.#state, {
              clock,
              log: log.child({ controller: controller.name, key }),
              signal,
              again,
            }),
          );
        } catch (error) {
          // What an aborted call throws says less than why it was aborted.
          throw limit.signal.aborted ? limit.signal.reason : error;
        } finally {
          timer.cancel();
        }
      },
    });
  }

  async #watch(kind: AnyKind, wakes: readonly { running: Running; input: Input }[]): Promise<void> {
    const signal = this.#stop.signal;
    let bookmark: Bookmark | undefined;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        const from = bookmark === undefined ? "bootstrap" : { bookmark };
        for await (const event of this.#options.store.watch(kind, { from, signal })) {
          bookmark = event.bookmark;
          failures = 0;
          if (event.kind === "bootstrapped") continue;
          for (const wake of wakes) {
            await this.#wake(wake, event.resource.metadata);
            if (event.kind === "updated" && wake.input.wakes) await this.#wake(wake, event.old.metadata);
          }
        }
      } catch (error) {
        if (error instanceof IchorError && (error.code === "out_of_range" || error.code === "resource_exhausted"))
          bookmark = undefined;
        this.#options.log.warn({ kind: kind.type, error: messageOf(error) }, "watch failed");
        await sleep(backoffDelay(failures), this.#options.clock, signal).catch(() => {});
      }
    }
  }

  async #wake({ running, input }: { running: Running; input: Input }, metadata: Metadata): Promise<void> {
    if (!input.wakes) return running.queue.add(metadata.id);
    const keys = await input.wakes(metadata, restrictReader(running.controller, this.#state));
    for (const key of keys) running.queue.add(key);
  }

  /** One timer per controller: all keys of its first input, spread over the turn of the loop by the queue. */
  #resync(running: Running): void {
    const { resync, inputs } = running.controller;
    const [first] = inputs;
    if (!resync || !first) return;
    const { clock } = this.#options;
    clock.after(resync * (0.9 + Math.random() * 0.2), () => {
      if (this.#stop.signal.aborted) return;
      void this.#options.store.list(first.kind).then(async ({ resources }) => {
        for (const { metadata } of resources) await this.#wake({ running, input: first }, metadata);
      });
      this.#resync(running);
    });
  }
}

function checkOwners(controllers: readonly Controller[]): void {
  const names = new Set<string>();
  const writers = new Map<string, { name: string; shared: boolean }>();
  for (const { name, outputs } of controllers) {
    if (names.has(name)) throw new IchorError("invalid_argument", `two controllers are named "${name}"`);
    names.add(name);
    for (const { kind, shared = false } of outputs) {
      const other = writers.get(kind.type);
      if (other && !(other.shared && shared)) {
        throw new IchorError(
          "invalid_argument",
          `${kind.type} is written by "${other.name}" and by "${name}": one writer per kind, or both declare it shared`,
        );
      }
      writers.set(kind.type, { name, shared });
    }
  }
}

function makeMetrics(registry: Registry) {
  const registers = [registry];
  const labelNames = ["controller"];
  const reconciles = new Counter({
    name: "ichor_controller_reconciles_total",
    help: "Reconciles by controller",
    labelNames,
    registers,
  });
  const failures = new Counter({
    name: "ichor_controller_failures_total",
    help: "Failed reconciles by controller",
    labelNames,
    registers,
  });
  const queued = new Gauge({
    name: "ichor_controller_queue_length",
    help: "Keys waiting by controller",
    labelNames,
    registers,
  });
  const seconds = new Histogram({
    name: "ichor_controller_reconcile_seconds",
    help: "Time of a reconcile",
    labelNames,
    registers,
    buckets: [0.001, 0.01, 0.1, 1, 10, 60],
  });
  return {
    done(controller: string, failed: boolean, ms: number, waiting: number) {
      reconciles.inc({ controller });
      if (failed) failures.inc({ controller });
      queued.set({ controller }, waiting);
      seconds.observe({ controller }, ms / 1000);
    },
  };
}
