import type { Registry } from "prom-client";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { codeOf, IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { Metadata } from "#resource/resource.ts";
import { State } from "#store/state.ts";
import type { Bookmark, Store, Stored, StoreEvent } from "#store/store.ts";
import type { Controller, Input } from "./controller.ts";
import { makeMetrics } from "./metrics.ts";
import { type ControllerState, Runner } from "./runner.ts";

/** What an engine runs with. */
export interface EngineOptions {
  readonly store: Store;
  readonly controllers: readonly Controller[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics?: Registry;
}

/** A kind that is watched, and for whom. */
interface Watched {
  readonly kind: AnyKind;
  readonly readers: { readonly runner: Runner; readonly input: Input }[];
  readonly writers: Runner[];
  /** What was seen last, so that what goes while the watch is broken is not missed. */
  readonly known: Map<string, Metadata>;
}

/**
 * Runs controllers: one watch per kind shared by all, a keyed queue per controller. What a change costs depends on the controllers
 * that it wakes, never on the size of the fleet.
 */
export class Engine {
  readonly #options: EngineOptions;
  readonly #stop = new AbortController();
  readonly #runners: ReadonlyMap<string, Runner>;
  readonly #listeners = new Set<(name: string) => void>();
  #watches: Promise<unknown> = Promise.resolve();

  /** Throws `invalid_argument` when two controllers have one name, or write one kind without sharing it. */
  constructor(options: EngineOptions) {
    this.#options = options;
    checkOwners(options.controllers);
    const { store, clock, log } = options;
    const state = new State(store);
    const measure = options.metrics && makeMetrics(options.metrics, () => this.status());
    this.#runners = new Map(
      options.controllers.map((controller) => {
        const { name } = controller;
        const onDone = (failed: boolean, seconds: number) => {
          measure?.(name, failed, seconds);
          for (const listener of this.#listeners) callSafely(listener, name, log);
        };
        return [name, new Runner({ controller, state, clock, log, signal: this.#stop.signal, onDone })];
      }),
    );
  }

  /** Wakes every key that exists, then goes on with changes. */
  start(): void {
    const watched = new Map<string, Watched>();
    const at = (kind: AnyKind): Watched => {
      const entry = watched.get(kind.type) ?? { kind, readers: [], writers: [], known: new Map() };
      watched.set(kind.type, entry);
      return entry;
    };
    for (const runner of this.#runners.values()) {
      for (const input of runner.controller.inputs) at(input.kind).readers.push({ runner, input });
      for (const { kind } of runner.controller.outputs) at(kind).writers.push(runner);
      runner.startResync();
    }
    this.#watches = Promise.all([...watched.values()].map((entry) => this.#watch(entry)));
  }

  /** Stops what runs and closes the controllers. */
  async stop(): Promise<void> {
    this.#stop.abort(new IchorError("aborted", "the plane is stopping"));
    await Promise.all([this.#watches, ...this.#runners.values().map((runner) => runner.stop())]);
    await Promise.all(this.#runners.values().map(({ controller }) => controller.close?.()));
  }

  /** How every controller stands: plain numbers, for metrics and the console. */
  status(): ControllerState[] {
    return [...this.#runners.values().map((runner) => runner.status())];
  }

  /** How many keys of a controller fail; cheap. */
  failing(name: string): number {
    return this.#runners.get(name)?.failing ?? 0;
  }

  /** True when no key of any controller waits for its turn or runs; those that wait for a time do not count. */
  get idle(): boolean {
    return this.#runners.values().every(({ idle }) => idle);
  }

  /** Calls back with a controller's name after each of its reconciles; answers how to stop that. */
  onStatus(listener: (name: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #watch(watched: Watched): Promise<void> {
    const { store, clock, log } = this.#options;
    const { signal } = this.#stop;
    let bookmark: Bookmark | undefined;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        const from = bookmark === undefined ? "bootstrap" : { bookmark };
        // After a gap: what is not told of again is gone.
        const missing = new Map(bookmark === undefined ? watched.known : []);
        let live = bookmark !== undefined;
        for await (const event of store.watch(watched.kind, { from, signal })) {
          if (event.kind === "bootstrapped") {
            for (const metadata of missing.values()) await tell(watched, metadata);
            live = true;
          } else {
            missing.delete(event.resource.metadata.id);
            await handle(watched, event);
          }
          // During the bootstrap there is no place to go on from.
          if (live) bookmark = event.bookmark;
          failures = 0;
        }
      } catch (error) {
        if (codeOf(error) === "out_of_range" || codeOf(error) === "resource_exhausted") bookmark = undefined;
        log.warn({ kind: watched.kind.type, error: messageOf(error) }, "watch failed");
      }
      await sleep(backoffDelay(failures), clock, signal).catch(() => {});
    }
  }
}

async function handle(watched: Watched, event: Exclude<StoreEvent, { kind: "bootstrapped" }>): Promise<void> {
  const { metadata } = event.resource;
  if (event.kind === "destroyed") return tell(watched, metadata);
  watched.known.set(metadata.id, metadata);
  for (const runner of watched.writers) runner.outputChanged(metadata, false);
  if (event.kind === "updated" && onlyHeld(event.old, event.resource)) return;
  const before = event.kind === "updated" ? event.old.metadata : undefined;
  for (const { runner, input } of watched.readers) await runner.wake(input, metadata, before);
}

/** Tells that a resource is gone. */
async function tell({ known, writers, readers }: Watched, metadata: Metadata): Promise<void> {
  known.delete(metadata.id);
  for (const runner of writers) runner.outputChanged(metadata, true);
  for (const { runner, input } of readers) await runner.wake(input, metadata);
}

/**
 * Whether an update did no more than put on or take off finalizers of what runs: every controller that holds a resource would
 * else wake every other one.
 */
function onlyHeld(before: Stored, after: Stored): boolean {
  const { finalizers: _a, version: _b, updated: _c, ...rest } = before.metadata;
  return (
    before.spec === after.spec &&
    after.metadata.phase === "running" &&
    before.metadata.finalizers.join() !== after.metadata.finalizers.join() &&
    Object.entries(rest).every(([name, value]) => value === after.metadata[name as keyof Metadata])
  );
}

function callSafely(listener: (name: string) => void, name: string, log: Logger): void {
  try {
    listener(name);
  } catch (error) {
    log.error({ controller: name, error: messageOf(error) }, "status listener failed");
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
