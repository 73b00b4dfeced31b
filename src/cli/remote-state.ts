import type { Message } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type Event,
  EventType,
  LabelTerm_Operation,
  type State as StateService,
} from "#gen/cosi/resource/resource_pb.ts";
import { fromWire, toWire } from "#kinds/wire.ts";
import { IchorError } from "#lib/errors.ts";
import type { AnyKind, Kind } from "#resource/kind.ts";
import type { Query } from "#resource/query.ts";
import { newMetadata, type Resource } from "#resource/resource.ts";
import type { ResourceWriter } from "#template/apply.ts";
import type { ResourceReader } from "#template/plan.ts";
import type { Wanted } from "#template/render.ts";
import { toIchorError } from "./exit.ts";

/** A change that a watch told. */
export type Change<S extends Message> =
  | { readonly kind: "created" | "updated" | "destroyed"; readonly resource: Resource<S> }
  | { readonly kind: "bootstrapped" };

/** The plane's resources over `cosi.resource.State`. Errors are {@link IchorError}s with the API's words. */
export class RemoteState implements ResourceReader, ResourceWriter {
  readonly #client: Client<typeof StateService>;

  constructor(client: Client<typeof StateService>) {
    this.#client = client;
  }

  async get<S extends Message>(kind: Kind<S>, id: string): Promise<Resource<S> | undefined> {
    try {
      const { resource } = await this.#client.get({ ...kind.key(id) });
      return resource && fromWire(kind, resource);
    } catch (error) {
      const ours = toIchorError(error);
      if (ours.code === "not_found") return undefined;
      throw ours;
    }
  }

  async list<S extends Message>(kind: Kind<S>, query?: Query): Promise<Resource<S>[]> {
    const found: Resource<S>[] = [];
    const options = { labelQuery: (query?.labels ?? []).map((terms) => ({ terms: terms.map(toTerm) })) };
    try {
      for await (const { resource } of this.#client.list({ namespace: kind.namespace, type: kind.type, options })) {
        if (resource) found.push(fromWire(kind, resource));
      }
    } catch (error) {
      throw toIchorError(error);
    }
    return found;
  }

  async create({ kind, id, spec, labels, annotations }: Wanted): Promise<void> {
    await this.#call(
      this.#client.create({ resource: toWire(kind, newMetadata(kind.key(id), { labels, annotations }), spec) }),
    );
  }

  async update({ kind, spec, labels, annotations }: Wanted, current: Resource): Promise<void> {
    await this.#call(
      this.#client.update({ newResource: toWire(kind, { ...current.metadata, labels, annotations }, spec) }),
    );
  }

  async teardown(kind: AnyKind, id: string): Promise<void> {
    await this.#call(this.#client.teardown({ ...kind.key(id) }));
  }

  async destroyWhenFree(kind: AnyKind, id: string, signal: AbortSignal): Promise<void> {
    for await (const change of this.watch(kind, { id, signal })) {
      if (change.kind === "bootstrapped") continue;
      if (change.kind === "destroyed") return;
      if (change.resource.metadata.finalizers.length > 0) continue;
      await this.#call(this.#client.destroy({ ...kind.key(id) }));
      return;
    }
    throw new IchorError("aborted", `stopped while waiting for ${kind.type} "${id}" to be let go`);
  }

  /** Tells what is, then what changes. With an id, an absent resource is told as `destroyed`. Ends when the signal aborts. */
  async *watch<S extends Message>(
    kind: Kind<S>,
    { id, signal }: { id?: string; signal: AbortSignal },
  ): AsyncGenerator<Change<S>> {
    const options = id === undefined ? { bootstrapContents: true } : {};
    try {
      const { namespace, type } = kind;
      for await (const { event } of this.#client.watch(
        { namespace, type, ...(id === undefined ? {} : { id }), options, apiVersion: 1 },
        { signal },
      )) {
        for (const item of event) {
          const change = toChange(kind, item);
          if (change) yield change;
        }
      }
    } catch (error) {
      if (!signal.aborted) throw toIchorError(error);
    }
  }

  async #call(work: Promise<unknown>): Promise<void> {
    try {
      await work;
    } catch (error) {
      throw toIchorError(error);
    }
  }
}

function toChange<S extends Message>(kind: Kind<S>, event: Event): Change<S> | undefined {
  switch (event.eventType) {
    case EventType.BOOTSTRAPPED:
      return { kind: "bootstrapped" };
    case EventType.ERRORED:
      throw new IchorError("unavailable", event.error ?? "the watch failed");
    case EventType.NOOP:
      return undefined;
    default: {
      const names: Record<number, "created" | "updated" | "destroyed"> = {
        [EventType.CREATED]: "created",
        [EventType.UPDATED]: "updated",
        [EventType.DESTROYED]: "destroyed",
      };
      const name = names[event.eventType];
      return name && event.resource ? { kind: name, resource: fromWire(kind, event.resource) } : undefined;
    }
  }
}

const operations = {
  exists: LabelTerm_Operation.EXISTS,
  equal: LabelTerm_Operation.EQUAL,
  in: LabelTerm_Operation.IN,
  lt: LabelTerm_Operation.LT,
  lte: LabelTerm_Operation.LTE,
  ltNumeric: LabelTerm_Operation.LT_NUMERIC,
  lteNumeric: LabelTerm_Operation.LTE_NUMERIC,
} as const;

function toTerm(term: NonNullable<Query["labels"]>[number][number]) {
  return { key: term.key, op: operations[term.op], value: [...(term.values ?? [])], invert: term.invert ?? false };
}
