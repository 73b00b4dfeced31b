import { createHash } from "node:crypto";
import type { Clock, Timer } from "#lib/clock.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import { type Key, keyText, type Metadata } from "#resource/resource.ts";
import type { State } from "#store/state.ts";
import { makeContext, restrictReader } from "./context.ts";
import type { Controller, Input, Reader } from "./controller.ts";
import { type Failing, KeyedQueue } from "./queue.ts";

/** How a controller stands. */
export interface ControllerState {
  readonly name: string;
  readonly purpose: string;
  /** Keys that wait for their turn. */
  readonly queued: number;
  readonly running: number;
  readonly reconciles: number;
  readonly failures: number;
  /** Time spent in all reconciles together. */
  readonly seconds: number;
  /** At most 20. */
  readonly failing: readonly Failing[];
}

/** What a runner needs of its engine. */
export interface RunnerOptions {
  readonly controller: Controller;
  readonly state: State;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Told after each reconcile. */
  readonly onDone: (failed: boolean, seconds: number) => void;
}

/** The longest time for one key unless the controller says otherwise. */
const defaultTimeout = 120_000;
const shownFailures = 20;

/** Runs one controller: turns changes into keys, and works on the keys. */
export class Runner {
  readonly controller: Controller;
  readonly #options: RunnerOptions;
  readonly #reader: Reader;
  /** Keys are ids of an input whose ids are secrets. */
  readonly #hasSecretKeys: boolean;
  readonly #queue: KeyedQueue;
  /** Changes whose keys could not be told: tried again like keys, or a change would be lost. */
  readonly #lookups: KeyedQueue;
  readonly #unresolved = new Map<string, { input: Input; before: Metadata; after: Metadata }>();
  /** Outputs that were to go and are held by others, and which keys wait for that. */
  readonly #leaving = new Map<string, Set<string>>();
  #reconciles = 0;
  #failures = 0;
  #milliseconds = 0;
  #resync: Timer | undefined;

  constructor(options: RunnerOptions) {
    const { controller, clock, state } = options;
    this.controller = controller;
    this.#options = options;
    this.#reader = restrictReader(controller, state);
    this.#hasSecretKeys = controller.inputs.some(({ kind, wakes }) => !wakes && kind.secretId);
    const concurrency = controller.concurrency ?? 1;
    const onDone = (key: string, error: unknown, ms: number) => this.#count(key, error, ms);
    this.#queue = new KeyedQueue({
      clock,
      concurrency,
      onDone,
      work: (key, again) => this.#reconcile(key, again),
    });
    this.#lookups = new KeyedQueue({ clock, concurrency: 1, work: (key) => this.#lookUp(key) });
  }

  /** Queues the keys that a change concerns. `before` where it was an update. */
  async wake(input: Input, after: Metadata, before?: Metadata): Promise<void> {
    if (!input.wakes) return this.#queue.add(after.id);
    try {
      await this.#add(input, after);
      if (before && !sameLabels(before, after)) await this.#add(input, before);
    } catch (error) {
      const { kind } = input;
      const key = `${kind.type} ${kind.secretId ? masked(after.id) : after.id}`;
      const earlier = this.#unresolved.get(key)?.before ?? before ?? after;
      this.#unresolved.set(key, { input, before: earlier, after });
      this.#lookups.add(key);
      const facts = { controller: this.controller.name, change: key, error: messageOf(error) };
      this.#options.log.warn(facts, "cannot tell what a change concerns");
    }
  }

  /** A resource of an output kind changed: wakes whoever wanted it gone and can now have that. */
  outputChanged(metadata: Metadata, destroyed: boolean): void {
    if (!destroyed && (metadata.phase !== "tearingDown" || metadata.finalizers.length > 0)) return;
    const text = keyText(metadata);
    for (const key of this.#leaving.get(text) ?? []) this.#queue.add(key);
    this.#leaving.delete(text);
  }

  /** Begins the timer of those that look at everything again from time to time. */
  startResync(): void {
    const { resync, inputs } = this.controller;
    const [first] = inputs;
    if (!resync || !first) return;
    const { clock, signal, state, log } = this.#options;
    this.#resync = clock.after(resync * (0.9 + Math.random() * 0.2), async () => {
      try {
        const { resources } = await state.store.list(first.kind);
        for (const { metadata } of resources) await this.wake(first, metadata);
      } catch (error) {
        if (!signal.aborted) log.warn({ controller: this.controller.name, error: messageOf(error) }, "resync failed");
      }
      if (!signal.aborted) this.startResync();
    });
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#resync?.cancel();
    await Promise.all([this.#queue.stop(), this.#lookups.stop()]);
  }

  status(): ControllerState {
    const { name, purpose } = this.controller;
    return {
      name,
      purpose,
      queued: this.#queue.queued,
      running: this.#queue.running,
      reconciles: this.#reconciles,
      failures: this.#failures,
      seconds: this.#milliseconds / 1000,
      failing: [
        ...this.#queue
          .failing(shownFailures)
          .map((one) => ({ ...one, key: this.#shown(one.key), error: this.#shown(one.key, one.error) })),
        ...this.#lookups.failing(shownFailures),
      ].slice(0, shownFailures),
    };
  }

  /** How many keys fail. */
  get failing(): number {
    return this.#queue.failures + this.#lookups.failures;
  }

  /** True when no key waits for its turn or runs; keys that wait for a time do not count. */
  get idle(): boolean {
    return [this.#queue, this.#lookups].every(({ queued, running }) => queued + running === 0);
  }

  async #add(input: Input, metadata: Metadata): Promise<void> {
    for (const key of (await input.wakes?.(metadata, this.#reader)) ?? []) this.#queue.add(key);
  }

  async #lookUp(key: string): Promise<void> {
    const change = this.#unresolved.get(key);
    if (!change) return;
    await this.#add(change.input, change.after);
    await this.#add(change.input, change.before);
    if (this.#unresolved.get(key) === change) this.#unresolved.delete(key);
  }

  async #reconcile(key: string, again: (ms: number) => void): Promise<void> {
    const { controller, clock, state, log, signal: stopping } = this.#options;
    const ms = controller.timeout ?? defaultTimeout;
    const limit = new AbortController();
    const timer = clock.after(ms, () =>
      limit.abort(new IchorError("deadline_exceeded", `took longer than ${ms / 1000} s`)),
    );
    const context = makeContext(controller, state, this.#reader, {
      clock,
      log: log.child({ controller: controller.name, id: this.#shown(key) }),
      signal: AbortSignal.any([stopping, limit.signal]),
      again,
      leaving: (output, on) => this.#setLeaving(output, key, on),
    });
    try {
      await controller.reconcile(key, context);
    } catch (error) {
      // What an aborted call throws says less than why it was aborted.
      throw limit.signal.aborted ? limit.signal.reason : error;
    } finally {
      timer.cancel();
    }
  }

  /** A key, or a text about it, as others may see it. */
  #shown(key: string, text = key): string {
    return this.#hasSecretKeys ? text.replaceAll(key, masked(key)) : text;
  }

  #setLeaving(output: Key, key: string, on: boolean): void {
    const text = keyText(output);
    const keys = this.#leaving.get(text) ?? new Set();
    if (on) this.#leaving.set(text, keys.add(key));
    else if (keys.delete(key) && keys.size === 0) this.#leaving.delete(text);
  }

  #count(key: string, error: unknown, ms: number): void {
    const { log, signal, onDone } = this.#options;
    this.#reconciles++;
    this.#milliseconds += ms;
    if (error !== undefined) {
      this.#failures++;
      const facts = {
        controller: this.controller.name,
        id: this.#shown(key),
        error: this.#shown(key, messageOf(error)),
      };
      if (!signal.aborted) log.warn(facts, "reconcile failed");
    }
    onDone(error !== undefined, ms / 1000);
  }
}

/** Enough of a hash to tell one from another, and to find it again for those who know the secret. */
function masked(secret: string): string {
  return `sha256:${createHash("sha256").update(secret).digest("hex").slice(0, 12)}`;
}

function sameLabels(before: Metadata, after: Metadata): boolean {
  return JSON.stringify([before.labels, before.annotations]) === JSON.stringify([after.labels, after.annotations]);
}
