import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { timestamp } from "#emulator/services.ts";
import type { Change, Entry } from "#emulator/state/collection.ts";
import { type ResourceType, typeNamed } from "#emulator/state/types.ts";
import {
  EventType,
  type IDQuery,
  type LabelQuery,
  LabelTerm_Operation,
  type ResourceSchema,
  type State,
  type WatchRequest,
  type WatchResponseSchema,
} from "#gen/cosi/resource/resource_pb.ts";
import { abortable } from "#lib/abort.ts";
import { type LabelTerm, matches, type Query } from "#resource/query.ts";
import { callOf } from "./call.ts";

const bufferLimit = 1000;
type Init = MessageInitShape<typeof ResourceSchema>;

/** COSI state as Talos serves it: reads by sensitivity, writes never (protocols.md 6). */
export const stateService: Partial<ServiceImpl<typeof State>> = {
  get(request, context) {
    const type = readable(context, request.namespace, request.type);
    const entry = callOf(context).boot.state.get(type, request.id);
    if (!entry)
      throw new ConnectError(
        `resource ${type.name}(${type.namespace}/${request.id}@undefined) doesn't exist`,
        Code.NotFound,
      );
    return { resource: toResource(entry) };
  },
  async *list(request, context) {
    const type = readable(context, request.namespace, request.type);
    const query = toQuery(request.options?.labelQuery ?? [], request.options?.idQuery);
    for (const entry of callOf(context).boot.state.list(type))
      if (selects(query, entry)) yield { resource: toResource(entry) };
  },
  async *watch(request, context) {
    const type = readable(context, request.namespace, request.type);
    yield* watch(request, context, type);
  },
  create: refuseWrite,
  update: refuseWrite,
  destroy: refuseWrite,
  teardown: refuseWrite,
  teardownAndDestroy: refuseWrite,
};

function refuseWrite(): never {
  throw new ConnectError("write access denied", Code.PermissionDenied);
}

function readable(context: HandlerContext, namespace: string, name: string): ResourceType {
  const { boot, roles } = callOf(context);
  const type = typeNamed(name, boot.chassis.release.minor);
  if (!type || type.namespace !== namespace)
    throw new ConnectError(
      `resource type "${name}" in namespace "${namespace}" is not known: access denied`,
      Code.PermissionDenied,
    );
  if (type.sensitive && !roles.has("os:admin")) throw new ConnectError("not authorized", Code.PermissionDenied);
  return type;
}

async function* watch(
  request: WatchRequest,
  context: HandlerContext,
  type: ResourceType,
): AsyncGenerator<MessageInitShape<typeof WatchResponseSchema>> {
  const { boot } = callOf(context);
  const options = request.options;
  const signal = AbortSignal.any([context.signal, boot.signal]);
  const query = toQuery(options?.labelQuery ?? [], options?.idQuery);
  if (request.id !== undefined && (query || options?.bootstrapContents))
    throw new ConnectError(
      "label or id query and bootstrap are not supported for a watch of one resource",
      Code.Unimplemented,
    );
  const queue: Change[] = [];
  let overrun = false;
  let wake = Promise.withResolvers<void>();
  const stop = boot.state.subscribe(type, (change) => {
    if (queue.length >= bufferLimit) overrun = true;
    else queue.push(change);
    wake.resolve();
  });
  try {
    const first: Event[] = [];
    if (options?.startFromBookmark !== undefined) {
      const missed =
        options.startFromBookmark.length === 8
          ? boot.state.since(type, Number(Buffer.from(options.startFromBookmark).readBigUInt64BE()))
          : undefined;
      if (!missed) throw new ConnectError("invalid bookmark", Code.FailedPrecondition);
      queue.unshift(...missed);
    } else if (request.id !== undefined) {
      const entry = boot.state.get(type, request.id);
      const bare = {
        metadata: {
          namespace: type.namespace,
          type: type.name,
          id: request.id,
          version: "undefined",
          phase: "running",
        },
        spec: {},
      };
      first.push({
        eventType: entry ? EventType.CREATED : EventType.DESTROYED,
        resource: entry ? toResource(entry) : bare,
        bookmark: bookmark(boot.state.seq),
      });
    } else if (options?.bootstrapContents) {
      for (const entry of boot.state.list(type))
        if (selects(query, entry)) first.push({ eventType: EventType.CREATED, resource: toResource(entry) });
      const end = {
        metadata: { namespace: type.namespace, type: type.name, id: "", version: "undefined", phase: "running" },
        spec: {},
      };
      if (request.apiVersion >= 1)
        first.push({ eventType: EventType.BOOTSTRAPPED, resource: end, bookmark: bookmark(boot.state.seq) });
    }
    // The empty message tells the client that the watch is in place.
    yield { event: [] };
    if (options?.aggregated && first.length > 0) yield { event: first };
    else for (const event of first) yield { event: [event] };
    for (;;) {
      const events = queue.splice(0).flatMap((change) => toEvents(change, request.id, query));
      if (options?.aggregated && events.length > 0) yield { event: events };
      else for (const event of events) yield { event: [event] };
      if (overrun) {
        if (request.apiVersion >= 1)
          yield { event: [{ eventType: EventType.ERRORED, error: "buffer overrun: namespace, type watch" }] };
        return;
      }
      if (queue.length === 0) {
        wake = Promise.withResolvers<void>();
        await abortable(wake.promise, signal);
      }
    }
  } finally {
    stop();
  }
}

interface Event {
  eventType: EventType;
  resource?: Init;
  old?: Init;
  error?: string;
  bookmark?: Uint8Array;
}

/** A change as a watch tells it: moves into and out of the query are creations and destructions. */
function toEvents(change: Change, id: string | undefined, query: Query | undefined): Event[] {
  const { entry, old, kind } = change;
  if (id !== undefined && entry.id !== id) return [];
  const now = kind !== "destroyed" && selects(query, entry);
  const before = kind === "destroyed" ? selects(query, entry) : old !== undefined && selects(query, old);
  const mark = bookmark(change.seq);
  if (now && before && old)
    return [{ eventType: EventType.UPDATED, resource: toResource(entry), old: toResource(old), bookmark: mark }];
  if (now) return [{ eventType: EventType.CREATED, resource: toResource(entry), bookmark: mark }];
  if (before) return [{ eventType: EventType.DESTROYED, resource: toResource(entry), bookmark: mark }];
  return [];
}

function bookmark(seq: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(seq));
  return bytes;
}

function toResource(entry: Entry): Init {
  return {
    metadata: {
      namespace: entry.type.namespace,
      type: entry.type.name,
      id: entry.id,
      version: String(entry.version),
      owner: entry.owner,
      phase: "running",
      created: timestamp(entry.created),
      updated: timestamp(entry.updated),
      labels: { ...entry.labels },
    },
    spec: { protoSpec: entry.proto, yamlSpec: entry.yaml() },
  };
}

const operations: Partial<Record<LabelTerm_Operation, LabelTerm["op"]>> = {
  [LabelTerm_Operation.EXISTS]: "exists",
  [LabelTerm_Operation.NOT_EXISTS]: "exists",
  [LabelTerm_Operation.EQUAL]: "equal",
  [LabelTerm_Operation.IN]: "in",
  [LabelTerm_Operation.LT]: "lt",
  [LabelTerm_Operation.LTE]: "lte",
  [LabelTerm_Operation.LT_NUMERIC]: "ltNumeric",
  [LabelTerm_Operation.LTE_NUMERIC]: "lteNumeric",
};

function toQuery(labels: readonly LabelQuery[], id: IDQuery | undefined): Query | undefined {
  if (labels.length === 0 && !id?.regexp) return undefined;
  let pattern: RegExp | undefined;
  try {
    if (id?.regexp) pattern = new RegExp(id.regexp.slice(0, 512));
  } catch {
    throw new ConnectError("failed to compile regexp", Code.InvalidArgument);
  }
  const groups = labels.map((group) =>
    group.terms.map((term) => {
      const op = operations[term.op];
      if (!op) throw new ConnectError("unsupported label query operator", Code.Unimplemented);
      return {
        key: term.key,
        op,
        values: term.value,
        invert: term.invert !== (term.op === LabelTerm_Operation.NOT_EXISTS),
      };
    }),
  );
  return { ...(pattern ? { id: pattern } : {}), ...(groups.length > 0 ? { labels: groups } : {}) };
}

function selects(query: Query | undefined, entry: Entry): boolean {
  return matches(query, {
    namespace: entry.type.namespace,
    type: entry.type.name,
    id: entry.id,
    version: entry.version,
    phase: "running",
    owner: entry.owner,
    labels: entry.labels,
    annotations: {},
    finalizers: [],
    created: entry.created,
    updated: entry.updated,
  });
}
