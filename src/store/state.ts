import { create, fromBinary, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { IchorError } from "#lib/errors.ts";
import type { Kind } from "#resource/kind.ts";
import type { Query } from "#resource/query.ts";
import { type Key, type Metadata, newMetadata, type Resource } from "#resource/resource.ts";
import type { Bookmark, Store, Stored, StoreEvent, WatchOptions, WriteOptions } from "./store.ts";

/** A watch event with the spec decoded. */
export type Event<S extends Message> =
  | { readonly kind: "created" | "destroyed"; readonly resource: Resource<S>; readonly bookmark: Bookmark }
  | { readonly kind: "updated"; readonly resource: Resource<S>; readonly old: Resource<S>; readonly bookmark: Bookmark }
  | { readonly kind: "bootstrapped"; readonly bookmark: Bookmark };

/** What may be given besides the spec when a resource is made. */
export type Extra = Partial<Pick<Metadata, "labels" | "annotations" | "finalizers">>;

/** A change: edit the draft in place, or return false to leave the stored resource as it is. */
export type Edit<S extends Message> = (draft: Draft<S>) => void | boolean;

/** A resource that may be edited. */
export interface Draft<S extends Message> {
  readonly spec: S;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
  readonly finalizers: Set<string>;
  /** The stored metadata, before the edit. */
  readonly metadata: Metadata;
}

/** Typed comfort over a {@link Store}, built once on its core. `owner` is put on every write. */
export class State {
  readonly store: Store;
  readonly owner: string;

  constructor(store: Store, owner = "") {
    this.store = store;
    this.owner = owner;
  }

  /** The same store, writing as somebody else. */
  as(owner: string): State {
    return new State(this.store, owner);
  }

  async get<S extends Message>(kind: Kind<S>, id: string): Promise<Resource<S> | undefined> {
    const found = await this.store.get(kind.key(id));
    return found && decode(kind, found);
  }

  /** Like get; throws `not_found`. */
  async require<S extends Message>(kind: Kind<S>, id: string): Promise<Resource<S>> {
    const found = await this.get(kind, id);
    if (!found) throw new IchorError("not_found", `${kind.type} "${id}" does not exist`);
    return found;
  }

  async list<S extends Message>(kind: Kind<S>, query?: Query): Promise<Resource<S>[]> {
    const { resources } = await this.store.list(kind, query);
    return resources.map((stored) => decode(kind, stored));
  }

  async create<S extends Message>(
    kind: Kind<S>,
    id: string,
    spec: MessageInitShape<GenMessage<S>>,
    extra: Extra = {},
  ): Promise<Resource<S>> {
    const stored = { metadata: newMetadata(kind.key(id), extra), spec: toBinary(kind.spec, create(kind.spec, spec)) };
    return decode(kind, await this.store.create(stored, { owner: this.owner }));
  }

  /** Reads, edits, writes; again from the start when somebody else wrote in between. An edit that changes nothing writes nothing. */
  async update<S extends Message>(
    kind: Kind<S>,
    id: string,
    edit: Edit<S>,
    options: WriteOptions = {},
  ): Promise<Resource<S>> {
    for (;;) {
      const current = await this.store.get(kind.key(id));
      if (!current) throw new IchorError("not_found", `${kind.type} "${id}" does not exist`);
      const next = applyEdit(kind, current, edit);
      if (!next) return decode(kind, current);
      const written = await this.#write(next, options);
      if (written) return decode(kind, written);
    }
  }

  /** Update, or create from an empty spec where there is none. Where the edit says false and there is none, the answer has version 0. */
  async modify<S extends Message>(
    kind: Kind<S>,
    id: string,
    edit: Edit<S>,
    options: WriteOptions = {},
  ): Promise<Resource<S>> {
    for (;;) {
      if (await this.store.get(kind.key(id))) {
        try {
          return await this.update(kind, id, edit, options);
        } catch (error) {
          if (error instanceof IchorError && error.code === "not_found") continue;
          throw error;
        }
      }
      const blank: Stored = { metadata: newMetadata(kind.key(id)), spec: new Uint8Array() };
      const next = applyEdit(kind, blank, edit);
      if (!next) return decode(kind, blank);
      try {
        return decode(kind, await this.store.create(next, { owner: this.owner }));
      } catch (error) {
        if (!(error instanceof IchorError && error.code === "already_exists")) throw error;
      }
    }
  }

  /** Sets the phase to tearingDown (idempotent). True when no finalizer holds it: it may be destroyed. */
  async teardown(key: Key, owner = this.owner): Promise<boolean> {
    for (;;) {
      const current = await this.store.get(key);
      if (!current) throw new IchorError("not_found", `${key.type} "${key.id}" does not exist`);
      if (current.metadata.phase === "tearingDown") return current.metadata.finalizers.length === 0;
      const next: Stored = { ...current, metadata: { ...current.metadata, phase: "tearingDown" } };
      const written = await this.#write(next, { owner, expectedPhase: "any" });
      if (written) return written.metadata.finalizers.length === 0;
    }
  }

  /** Destroys it; `not_found` and remaining finalizers are errors. */
  async destroy(key: Key): Promise<void> {
    await this.store.destroy(key, { owner: this.owner });
  }

  /** Adds a finalizer whoever owns the resource; throws `invalid_argument` when it is already being torn down. */
  async addFinalizer(key: Key, finalizer: string): Promise<void> {
    await this.#editFinalizers(key, (set) => set.add(finalizer), "running");
  }

  /** Removes a finalizer whoever owns the resource; a resource that is gone is fine. */
  async removeFinalizer(key: Key, finalizer: string): Promise<void> {
    await this.#editFinalizers(key, (set) => set.delete(finalizer), "any");
  }

  /** As the store's, decoded. The place is taken at the call. */
  watch<S extends Message>(kind: Kind<S>, options: WatchOptions): AsyncGenerator<Event<S>> {
    return decodeAll(kind, this.store.watch(kind, options));
  }

  /** Waits until `test` holds for the resource (undefined = it does not exist) and answers it. */
  async waitFor<S extends Message, R extends Resource<S> | undefined>(
    kind: Kind<S>,
    id: string,
    test: (resource: Resource<S> | undefined) => resource is R,
    signal: AbortSignal,
  ): Promise<R>;
  async waitFor<S extends Message>(
    kind: Kind<S>,
    id: string,
    test: (resource: Resource<S> | undefined) => boolean,
    signal: AbortSignal,
  ): Promise<Resource<S> | undefined>;
  async waitFor<S extends Message>(
    kind: Kind<S>,
    id: string,
    test: (resource: Resource<S> | undefined) => boolean,
    signal: AbortSignal,
  ): Promise<Resource<S> | undefined> {
    let current: Resource<S> | undefined;
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    try {
      let ready = false;
      for await (const event of this.watch(kind, { id, from: "bootstrap", signal: both })) {
        if (event.kind === "bootstrapped") ready = true;
        else current = event.kind === "destroyed" ? undefined : event.resource;
        if (ready && test(current)) return current;
      }
    } finally {
      stop.abort();
    }
    throw signal.reason ?? new IchorError("unavailable", "the store was closed");
  }

  async #editFinalizers(
    key: Key,
    edit: (set: Set<string>) => unknown,
    expectedPhase: "running" | "any",
  ): Promise<void> {
    for (;;) {
      const current = await this.store.get(key);
      if (!current) {
        if (expectedPhase === "any") return;
        throw new IchorError("not_found", `${key.type} "${key.id}" does not exist`);
      }
      const set = new Set(current.metadata.finalizers);
      edit(set);
      const finalizers = [...set];
      if (finalizers.length === current.metadata.finalizers.length) return;
      const next = { ...current, metadata: { ...current.metadata, finalizers } };
      if (await this.#write(next, { owner: current.metadata.owner, expectedPhase })) return;
    }
  }

  /** Undefined when another write came first. */
  async #write(next: Stored, options: WriteOptions): Promise<Stored | undefined> {
    try {
      return await this.store.update(next, { owner: this.owner, ...options });
    } catch (error) {
      if (error instanceof IchorError && error.code === "failed_precondition") return undefined;
      throw error;
    }
  }
}

/** Decodes a stored resource. Throws `data_loss` when its bytes are not that message. */
export function decode<S extends Message>(kind: Kind<S>, stored: Stored): Resource<S> {
  try {
    return { metadata: stored.metadata, spec: fromBinary(kind.spec, stored.spec) };
  } catch (cause) {
    throw new IchorError("data_loss", `${kind.type} "${stored.metadata.id}" cannot be decoded`, { cause });
  }
}

async function* decodeAll<S extends Message>(
  kind: Kind<S>,
  events: AsyncIterable<StoreEvent>,
): AsyncGenerator<Event<S>> {
  for await (const event of events) {
    if (event.kind === "bootstrapped") yield event;
    else if (event.kind === "updated")
      yield { ...event, resource: decode(kind, event.resource), old: decode(kind, event.old) };
    else yield { ...event, resource: decode(kind, event.resource) };
  }
}

/** The edited record, or undefined when nothing changed. */
function applyEdit<S extends Message>(kind: Kind<S>, current: Stored, edit: Edit<S>): Stored | undefined {
  const { metadata } = current;
  const draft: Draft<S> = {
    spec: decode(kind, current).spec,
    labels: { ...metadata.labels },
    annotations: { ...metadata.annotations },
    finalizers: new Set(metadata.finalizers),
    metadata,
  };
  if (edit(draft) === false) return undefined;
  const spec = toBinary(kind.spec, draft.spec);
  const finalizers = [...draft.finalizers];
  const same =
    metadata.version > 0 &&
    Buffer.compare(spec, current.spec) === 0 &&
    sameRecord(draft.labels, metadata.labels) &&
    sameRecord(draft.annotations, metadata.annotations) &&
    finalizers.length === metadata.finalizers.length &&
    finalizers.every((name, index) => name === metadata.finalizers[index]);
  if (same) return undefined;
  return { metadata: { ...metadata, labels: draft.labels, annotations: draft.annotations, finalizers }, spec };
}

function sameRecord(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
