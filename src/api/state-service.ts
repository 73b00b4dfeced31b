import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Event,
  EventSchema,
  EventType,
  type LabelQuery,
  type LabelTerm,
  LabelTerm_Operation as Operation,
  ResourceSchema,
  type State as StateDefinition,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
  type Resource as WireResource,
} from "#gen/cosi/resource/resource_pb.ts";
import { GuardedStore, type GuardOptions } from "#guard/guarded-store.ts";
import { kindOf } from "#kinds/all.ts";
import { metadataFromWire } from "#kinds/wire.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { Query, LabelTerm as Term } from "#resource/query.ts";
import type { Key, Metadata } from "#resource/resource.ts";
import { decode } from "#store/state.ts";
import type { Scope, Store, Stored, StoreEvent, WatchOptions } from "#store/store.ts";
import { callerOf } from "./authentication.ts";
import { fromYaml, toYaml } from "./yaml-spec.ts";

/** Longest regular expression over ids. */
const longestPattern = 256;
/** Repetitions in one. */
const mostRepetitions = 3;

/** The resources, as COSI clients read and write them (protocols.md 6.1). */
export function stateService(store: Store, guard: GuardOptions): ServiceImpl<typeof StateDefinition> {
  const as = (context: Parameters<typeof callerOf>[0]) => new GuardedStore(store, callerOf(context), guard);
  return {
    async get({ namespace, type, id }, { values }) {
      return { resource: toWire(await as(values).get({ namespace, type, id })) };
    },
    async *list({ namespace, type, options }, { values }) {
      const query = readQuery(options?.labelQuery ?? [], options?.idQuery?.regexp);
      const { resources } = await as(values).list({ namespace, type }, query);
      for (const stored of resources) yield { resource: toWire(stored) };
    },
    async create({ resource, options }, { values }) {
      refuseOwner(options?.owner);
      return { resource: toWire(await as(values).create(fromWire(resource))) };
    },
    async update({ newResource, options }, { values }) {
      refuseOwner(options?.owner);
      const expected = readPhase(options?.expectedPhase);
      return { resource: toWire(await as(values).update(fromWire(newResource), expected)) };
    },
    async destroy({ namespace, type, id, options }, { values }) {
      refuseOwner(options?.owner);
      await as(values).destroy({ namespace, type, id });
      return {};
    },
    async teardown({ namespace, type, id, options }, { values }) {
      refuseOwner(options?.owner);
      return { destroyReady: await as(values).teardown({ namespace, type, id }) };
    },
    async teardownAndDestroy({ namespace, type, id, options }, { values, signal }) {
      refuseOwner(options?.owner);
      const key = { namespace, type, id };
      const guarded = as(values);
      if (!(await guarded.teardown(key))) await untilFree(guarded, key, signal);
      await guarded.destroy(key).catch((error: unknown) => {
        // Somebody else was faster.
        if (codeOf(error) !== "not_found") throw error;
      });
      return {};
    },
    watch: (request, { values, signal }) => watch(as(values), request, signal),
  };
}

/** Returns when nothing holds it any more, or it is gone. Throws `canceled` when the call ends first: nobody waits for the rest then. */
async function untilFree(guarded: GuardedStore, key: Key, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  try {
    for await (const event of guarded.watch(key, { id: key.id, from: "bootstrap", signal: both })) {
      if (event.kind === "destroyed") return;
      if (event.kind !== "bootstrapped" && event.resource.metadata.finalizers.length === 0) return;
    }
  } finally {
    stop.abort();
  }
  throw new IchorError("canceled", "the call ended before the resource was let go");
}

async function* watch(
  guarded: GuardedStore,
  request: WatchRequest,
  signal: AbortSignal,
): AsyncGenerator<WatchResponse> {
  const { namespace, type, id, options, apiVersion } = request;
  const single = id !== undefined;
  const bootstrap = options?.bootstrapContents ?? false;
  if (single && (bootstrap || options?.labelQuery.length || options?.idQuery?.regexp))
    throw new IchorError("unimplemented", "a watch of one resource takes neither queries nor bootstrap contents");
  if (options?.tailEvents)
    throw new IchorError("unimplemented", "watching from a number of past events is not built yet");
  const bookmark = options?.startFromBookmark;
  const from: WatchOptions["from"] = bookmark?.length
    ? { bookmark: Buffer.from(bookmark).toString() }
    : single || bootstrap
      ? "bootstrap"
      : "now";
  const query = readQuery(options?.labelQuery ?? [], options?.idQuery?.regexp);
  const events = begin(guarded, { namespace, type }, { ...(single ? { id } : {}), query, from, signal });
  // Clients wait for this before they count on anything (trap 13).
  yield create(WatchResponseSchema);
  let seen = false;
  try {
    for await (const event of events) {
      if (event.kind === "bootstrapped") {
        // A single resource that is not there is told as gone.
        if (single && !seen && from === "bootstrap") {
          const missing = create(ResourceSchema, {
            metadata: { namespace, type, id, version: "undefined", phase: "running" },
          });
          yield one(create(EventSchema, { eventType: EventType.DESTROYED, resource: missing }));
        }
        if (!single && bootstrap && apiVersion >= 1) yield one(toEvent(event));
        continue;
      }
      seen = true;
      yield one(toEvent(event));
    }
  } catch (error) {
    if (!(error instanceof IchorError && error.code === "resource_exhausted" && apiVersion >= 1)) throw error;
    yield one(create(EventSchema, { eventType: EventType.ERRORED, error: error.message }));
  }
}

/** The place is taken here; what cannot be gone on from has the code that makes clients begin again. */
function begin(guarded: GuardedStore, scope: Scope, options: WatchOptions): AsyncIterable<StoreEvent> {
  try {
    return guarded.watch(scope, options);
  } catch (error) {
    if (codeOf(error) !== "out_of_range") throw error;
    throw new IchorError("failed_precondition", "the bookmark is too old: watch again with bootstrap contents");
  }
}

function one(event: Event): WatchResponse {
  return create(WatchResponseSchema, { event: [event] });
}

const eventTypes = {
  created: EventType.CREATED,
  updated: EventType.UPDATED,
  destroyed: EventType.DESTROYED,
  bootstrapped: EventType.BOOTSTRAPPED,
} as const;

function toEvent(event: StoreEvent): Event {
  const bookmark = Buffer.from(event.bookmark);
  const eventType = eventTypes[event.kind];
  if (event.kind === "bootstrapped") return create(EventSchema, { eventType, bookmark });
  const old = event.kind === "updated" ? { old: toWire(event.old) } : {};
  return create(EventSchema, { eventType, bookmark, resource: toWire(event.resource), ...old });
}

function toWire({ metadata, spec }: Stored): WireResource {
  const kind = kindOf(metadata.type);
  const yamlSpec = kind ? toYaml(kind, decode(kind, { metadata, spec }).spec) : "";
  return create(ResourceSchema, {
    metadata: {
      namespace: metadata.namespace,
      type: metadata.type,
      id: metadata.id,
      version: String(metadata.version),
      owner: metadata.owner,
      phase: metadata.phase,
      created: timestampFromMs(metadata.created),
      updated: timestampFromMs(metadata.updated),
      finalizers: [...metadata.finalizers],
      labels: { ...metadata.labels },
      annotations: { ...metadata.annotations },
    },
    spec: { protoSpec: spec, yamlSpec },
  });
}

/** A resource that a client sends. Throws `invalid_argument`. */
function fromWire(wire: WireResource | undefined): Stored {
  if (!wire?.metadata) throw new IchorError("invalid_argument", "the request holds no resource");
  const metadata: Metadata = metadataFromWire(wire);
  const proto = wire.spec?.protoSpec ?? new Uint8Array();
  const yaml = wire.spec?.yamlSpec ?? "";
  const kind = kindOf(metadata.type);
  const plain = yaml !== "" && kind && (proto.length === 0 || isCompressed(kind, proto));
  return { metadata, spec: plain ? fromYaml(kind, yaml) : proto };
}

/** Stock clients compress large texts with a dictionary of their own, and send them in plain beside it (protocols.md 11.5). */
function isCompressed(kind: AnyKind, spec: Uint8Array): boolean {
  try {
    const { compressedData } = fromBinary(kind.spec, spec) as { readonly compressedData?: Uint8Array };
    return (compressedData?.length ?? 0) > 0;
  } catch {
    // What is wrong with it is said where it is checked.
    return false;
  }
}

/** The phase that a client counts on; `running` where it says nothing. */
function readPhase(phase: string | undefined): Metadata["phase"] | undefined {
  if (phase === undefined || phase === "running" || phase === "tearingDown") return phase;
  throw new IchorError("invalid_argument", "the expected phase is neither running nor tearingDown");
}

function refuseOwner(owner: string | undefined): void {
  if (owner) throw new IchorError("permission_denied", "clients write as users: the owner must be empty");
}

const operations: Readonly<Record<number, Term["op"]>> = {
  [Operation.EXISTS]: "exists",
  [Operation.NOT_EXISTS]: "exists",
  [Operation.EQUAL]: "equal",
  [Operation.IN]: "in",
  [Operation.LT]: "lt",
  [Operation.LTE]: "lte",
  [Operation.LT_NUMERIC]: "ltNumeric",
  [Operation.LTE_NUMERIC]: "lteNumeric",
};

function readQuery(labelQuery: readonly LabelQuery[], pattern: string | undefined): Query {
  return {
    labels: labelQuery.map(({ terms }) => terms.map(readTerm)),
    ...(pattern ? { id: readPattern(pattern) } : {}),
  };
}

function readTerm({ key, op, value, invert }: LabelTerm): Term {
  const known = operations[op];
  if (!known) throw new IchorError("invalid_argument", `the label query has an unknown operation ${op}`);
  return { key, op: known, values: value, invert: invert !== (op === Operation.NOT_EXISTS) };
}

/** Ids are short and patterns tame, so that matching one takes no time to speak of. */
function readPattern(pattern: string): RegExp {
  if (pattern.length > longestPattern || !isTame(pattern))
    throw new IchorError(
      "invalid_argument",
      `an id query is a regular expression of at most ${longestPattern} characters with at most ${mostRepetitions} repetitions, none of a group, and without references`,
    );
  try {
    return new RegExp(pattern);
  } catch (cause) {
    throw new IchorError("invalid_argument", "the id query is not a regular expression", { cause });
  }
}

/** Repetition inside repetition takes exponential time, and each further repetition a power more: whoever may read could stop the plane. */
function isTame(pattern: string): boolean {
  if (/\\[1-9k]/.test(pattern)) return false;
  const plain = pattern.replace(/\\./gs, "x").replace(/\[[^\]]*\]/g, "x");
  return !/\)[*+{]/.test(plain) && (plain.match(/[*+{]/g) ?? []).length <= mostRepetitions;
}
