import { randomBytes } from "node:crypto";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { matches, type Query } from "#resource/query.ts";
import { type Key, keyText, type Metadata } from "#resource/resource.ts";
import { type Change, History, type HistoryLimits } from "./history.ts";
import type { Bookmark, Scope, Store, Stored, StoreEvent, WatchOptions, WriteOptions } from "./store.ts";

/** Makes changes durable, all or none, in order. */
export type Persist = (changes: readonly Change[]) => Promise<void>;

/** How a {@link MemoryStore} starts. */
export interface MemoryOptions {
  readonly clock: Clock;
  /** How much is kept for watches that resume or read slowly, per kind. Default 10,000 changes and 4 MiB of specs. */
  readonly history?: HistoryLimits;
  /** Marks the bookmarks of this run, hexadecimal; default random. */
  readonly epoch?: string;
  /** What is there already; `epoch` is that of the run that made the last write. */
  readonly initial?: { readonly revision: number; readonly epoch: string; readonly resources: Iterable<Stored> };
  /** Called with each group of writes before it becomes visible; the store of tests has none. */
  readonly persist?: Persist;
}

interface Waiting {
  readonly change: Change;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * All resources in memory; alone it is the store of tests, with `persist` the front of a durable one: writes are checked at once
 * against what is on its way, gathered while a group is being persisted, and seen by readers only when durable.
 */
export class MemoryStore implements Store {
  readonly #clock: Clock;
  readonly #persist: Persist | undefined;
  readonly #kinds = new Map<string, Map<string, Stored>>();
  readonly #history: History;
  /** The last change of each resource that is on its way to being durable. */
  readonly #coming = new Map<string, Change>();
  #queue: Waiting[] = [];
  #flushing: Promise<void> | undefined;
  #revision: number;
  #closed = false;

  constructor(options: MemoryOptions) {
    this.#clock = options.clock;
    this.#persist = options.persist;
    this.#revision = options.initial?.revision ?? 0;
    const epoch = options.epoch ?? randomBytes(6).toString("hex");
    const start = { revision: this.#revision, epoch: options.initial?.epoch ?? epoch };
    this.#history = new History(epoch, start, options.history);
    for (const stored of options.initial?.resources ?? []) this.#scope(stored.metadata).set(stored.metadata.id, stored);
  }

  async get(key: Key): Promise<Stored | undefined> {
    this.#open();
    return this.#kinds.get(scopeText(key))?.get(key.id);
  }

  async list(scope: Scope, query?: Query): Promise<{ resources: Stored[]; bookmark: Bookmark }> {
    this.#open();
    const all = [...(this.#kinds.get(scopeText(scope))?.values() ?? [])];
    const resources = all.filter(({ metadata }) => matches(query, metadata)).sort(byId);
    return { resources, bookmark: this.#history.bookmark() };
  }

  async create(resource: Stored, options: Pick<WriteOptions, "owner"> = {}): Promise<Stored> {
    const { metadata } = resource;
    const before = this.#latest(metadata);
    if (before)
      return this.#refuse(
        metadata,
        new IchorError("already_exists", `${metadata.type} "${metadata.id}" already exists`),
      );
    const now = this.#clock.now();
    const next: Metadata = { ...metadata, version: 1, owner: options.owner ?? "", created: now, updated: now };
    return this.#write({ metadata: next, spec: own(resource.spec) });
  }

  async update(resource: Stored, options: WriteOptions = {}): Promise<Stored> {
    const { metadata } = resource;
    const before = this.#latest(metadata);
    const refusal = before ? refuseUpdate(before.metadata, metadata, options) : notFound(metadata);
    if (refusal || !before) return this.#refuse(metadata, refusal ?? notFound(metadata));
    const { owner, created } = before.metadata;
    const updated = this.#clock.now();
    const next: Metadata = { ...metadata, version: before.metadata.version + 1, owner, created, updated };
    return this.#write({ metadata: next, spec: own(resource.spec) }, before);
  }

  async destroy(key: Key, options: Pick<WriteOptions, "owner"> & { version?: number } = {}): Promise<void> {
    const before = this.#latest(key);
    if (!before) return this.#refuse(key, notFound(key));
    const { metadata } = before;
    if (metadata.owner !== (options.owner ?? "")) return this.#refuse(key, notOwner(metadata, options.owner));
    if (options.version !== undefined && options.version !== metadata.version) {
      return this.#refuse(
        key,
        new IchorError(
          "failed_precondition",
          `${key.type} "${key.id}" is at version ${metadata.version}, not ${options.version}`,
        ),
      );
    }
    if (metadata.finalizers.length > 0) {
      return this.#refuse(
        key,
        new IchorError(
          "failed_precondition",
          `${key.type} "${key.id}" is still held by ${metadata.finalizers.join(", ")}`,
        ),
      );
    }
    await this.#commit({ revision: ++this.#revision, key, before });
  }

  watch(scope: Scope, options: WatchOptions): AsyncIterable<StoreEvent> {
    this.#open();
    // The place is taken at the call, not when the reader first looks.
    const { from } = options;
    const after =
      typeof from === "object" ? this.#history.resume(scopeText(scope), from.bookmark) : this.#history.revision;
    const selects = (stored: Stored | undefined) =>
      stored !== undefined &&
      (options.id === undefined || stored.metadata.id === options.id) &&
      matches(options.query, stored.metadata);
    const existing =
      from === "bootstrap"
        ? [...(this.#kinds.get(scopeText(scope))?.values() ?? [])].filter(selects).sort(byId)
        : undefined;
    return this.#follow(scopeText(scope), after, selects, options.signal, existing);
  }

  async *#follow(
    scope: string,
    start: number,
    selects: (stored: Stored | undefined) => boolean,
    signal: AbortSignal,
    existing?: readonly Stored[],
  ): AsyncGenerator<StoreEvent> {
    let after = start;
    if (existing) {
      const bookmark = this.#history.bookmark(start);
      for (const resource of existing) {
        if (signal.aborted) return;
        yield { kind: "created", resource, bookmark };
      }
      if (signal.aborted) return;
      yield { kind: "bootstrapped", bookmark };
    }
    while (!signal.aborted) {
      const changes = this.#history.since(scope, after);
      if (changes.length === 0) {
        if (this.#closed || !(await this.#history.wait(scope, signal))) return;
        continue;
      }
      for (const change of changes) {
        after = change.revision;
        const event = toEvent(
          change,
          selects(change.before),
          selects(change.after),
          this.#history.bookmark(change.revision),
        );
        if (signal.aborted) return;
        if (event) yield event;
      }
    }
  }

  async compact(bookmark: Bookmark): Promise<void> {
    this.#history.compact(bookmark);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#flushing;
    this.#history.close();
  }

  /** The highest revision that is durable. */
  get revision(): number {
    return this.#history.revision;
  }

  #latest(key: Key): Stored | undefined {
    this.#open();
    const text = keyText(key);
    const coming = this.#coming.get(text);
    return coming ? coming.after : this.#kinds.get(scopeText(key))?.get(key.id);
  }

  /** A caller that lost against a write on its way must see that write when it looks again, or it would spin. */
  async #refuse(key: Key, error: IchorError): Promise<never> {
    if (this.#coming.has(keyText(key))) await this.#flushing;
    throw error;
  }

  async #write(after: Stored, before?: Stored): Promise<Stored> {
    await this.#commit({ revision: ++this.#revision, key: after.metadata, after, ...(before ? { before } : {}) });
    return after;
  }

  #commit(change: Change): Promise<void> {
    if (!this.#persist) {
      this.#publish(change);
      return Promise.resolve();
    }
    this.#coming.set(keyText(change.key), change);
    return new Promise((resolve, reject) => {
      this.#queue.push({ change, resolve, reject });
      this.#flushing ??= this.#flush(this.#persist!);
    });
  }

  async #flush(persist: Persist): Promise<void> {
    for (;;) {
      // Writers of the same turn share a group, also those that were just answered and write again.
      await new Promise<void>((resolve) => setImmediate(resolve));
      const group = this.#queue;
      this.#queue = [];
      if (group.length === 0) break;
      try {
        await persist(group.map(({ change }) => change));
      } catch (error) {
        // What was checked against the lost group is lost with it.
        for (const { reject } of [...group, ...this.#queue]) reject(error);
        this.#queue = [];
        this.#coming.clear();
        break;
      }
      for (const { change, resolve } of group) {
        const text = keyText(change.key);
        if (this.#coming.get(text) === change) this.#coming.delete(text);
        this.#publish(change);
        resolve();
      }
    }
    this.#flushing = undefined;
  }

  #publish(change: Change): void {
    const scope = this.#scope(change.key);
    if (change.after) scope.set(change.key.id, change.after);
    else scope.delete(change.key.id);
    this.#history.append(scopeText(change.key), change);
  }

  #scope(scope: Scope): Map<string, Stored> {
    const text = scopeText(scope);
    let found = this.#kinds.get(text);
    if (!found) {
      found = new Map();
      this.#kinds.set(text, found);
    }
    return found;
  }

  #open(): void {
    if (this.#closed) throw new IchorError("unavailable", "the store is closed");
  }
}

/** A piece of a larger buffer (a request's body) would keep all of it alive. */
function own(spec: Uint8Array): Uint8Array {
  return spec.byteLength === spec.buffer.byteLength ? spec : new Uint8Array(spec);
}

function scopeText(scope: Scope): string {
  return `${scope.namespace}/${scope.type}`;
}

function byId(a: Stored, b: Stored): number {
  return a.metadata.id < b.metadata.id ? -1 : a.metadata.id > b.metadata.id ? 1 : 0;
}

function toEvent(change: Change, before: boolean, after: boolean, bookmark: Bookmark): StoreEvent | undefined {
  if (after) {
    if (before) return { kind: "updated", resource: change.after!, old: change.before!, bookmark };
    return { kind: "created", resource: change.after!, bookmark };
  }
  return before ? { kind: "destroyed", resource: change.after ?? change.before!, bookmark } : undefined;
}

function notFound(key: Key): IchorError {
  return new IchorError("not_found", `${key.type} "${key.id}" does not exist`);
}

function notOwner(stored: Metadata, owner = ""): IchorError {
  const who = stored.owner ? `belongs to ${stored.owner}` : "belongs to users";
  return new IchorError(
    "permission_denied",
    `${stored.type} "${stored.id}" ${who}: ${owner || "a user"} may not write it`,
  );
}

function refuseUpdate(
  stored: Metadata,
  next: Metadata,
  { owner = "", expectedPhase = "running" }: WriteOptions,
): IchorError | undefined {
  if (stored.owner !== owner) return notOwner(stored, owner);
  if (stored.version !== next.version) {
    return new IchorError(
      "failed_precondition",
      `${stored.type} "${stored.id}" was changed meanwhile (version ${stored.version}, expected ${next.version})`,
    );
  }
  if (expectedPhase !== "any" && stored.phase !== expectedPhase) {
    return new IchorError("invalid_argument", `${stored.type} "${stored.id}" is ${stored.phase}, not ${expectedPhase}`);
  }
  if (stored.phase === "tearingDown" && next.phase === "running") {
    return new IchorError(
      "invalid_argument",
      `${stored.type} "${stored.id}" is being torn down: that cannot be taken back`,
    );
  }
  return undefined;
}
