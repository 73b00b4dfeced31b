import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Clock } from "#lib/clock.ts";
import type { ResourceType } from "./types.ts";
import { toYaml } from "./yaml.ts";

/** A resource of one machine. Immutable. */
export interface Entry {
  readonly type: ResourceType;
  readonly id: string;
  readonly version: number;
  readonly owner: string;
  /** Milliseconds since the epoch. */
  readonly created: number;
  readonly updated: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly proto: Uint8Array;
  /** The YAML form, made when asked. */
  yaml(): string;
}

/** A change, numbered within one boot of one machine. */
export interface Change {
  readonly seq: number;
  readonly kind: "created" | "updated" | "destroyed";
  readonly entry: Entry;
  readonly old?: Entry;
}

const historyLength = 100;

/** Resources of one boot of a machine: written by the machine, read through the COSI API. */
export class Collection {
  readonly #kinds = new Map<string, Map<string, Entry>>();
  readonly #listeners = new Map<string, Set<(change: Change) => void>>();
  readonly #history = new Map<string, Change[]>();
  readonly #clock: Clock;
  #seq = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }
  /** Number of the last change. */
  get seq(): number {
    return this.#seq;
  }
  get(type: ResourceType, id: string): Entry | undefined {
    return this.#kinds.get(type.name)?.get(id);
  }
  /** All of a type, ordered by id. */
  list(type: ResourceType): Entry[] {
    return [...(this.#kinds.get(type.name)?.values() ?? [])].sort((a, b) => (a.id < b.id ? -1 : 1));
  }
  /** Creates or replaces; without a difference nothing happens. */
  put<D extends DescMessage>(
    type: ResourceType<D>,
    id: string,
    init: MessageInitShape<D>,
    options: { labels?: Record<string, string>; yaml?: string } = {},
  ): void {
    const schema: DescMessage = type.spec;
    const proto = toBinary(schema, create(schema, init as Record<string, unknown>));
    const kind = this.#kinds.get(type.name) ?? new Map<string, Entry>();
    this.#kinds.set(type.name, kind);
    const old = kind.get(id);
    const labels = options.labels ?? {};
    if (old && Buffer.compare(old.proto, proto) === 0 && JSON.stringify(old.labels) === JSON.stringify(labels)) return;
    const now = this.#clock.now();
    const entry: Entry = {
      type,
      id,
      version: (old?.version ?? 0) + 1,
      owner: type.owner,
      created: old?.created ?? now,
      updated: now,
      labels,
      proto,
      yaml: () => options.yaml ?? toYaml(type.spec, proto),
    };
    kind.set(id, entry);
    this.#tell(
      type,
      old ? { seq: ++this.#seq, kind: "updated", entry, old } : { seq: ++this.#seq, kind: "created", entry },
    );
  }
  /** Removes; absent is fine. */
  remove(type: ResourceType, id: string): void {
    const entry = this.get(type, id);
    if (!entry) return;
    this.#kinds.get(type.name)?.delete(id);
    this.#tell(type, { seq: ++this.#seq, kind: "destroyed", entry });
  }
  /** Removes all of a type that `keep` does not name. */
  retain(type: ResourceType, keep: ReadonlySet<string>): void {
    for (const entry of this.list(type)) if (!keep.has(entry.id)) this.remove(type, entry.id);
  }
  /** Calls `listener` on each later change of a type until the answer is called. */
  subscribe(type: ResourceType, listener: (change: Change) => void): () => void {
    const listeners = this.#listeners.get(type.name) ?? new Set();
    this.#listeners.set(type.name, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }
  /** Changes of a type after number `seq`, or undefined when they are no longer all known. */
  since(type: ResourceType, seq: number): Change[] | undefined {
    if (seq > this.#seq) return undefined;
    const history = this.#history.get(type.name) ?? [];
    const whole = history.length < historyLength || history[0]!.seq <= seq + 1;
    return whole ? history.filter((change) => change.seq > seq) : undefined;
  }

  #tell(type: ResourceType, change: Change): void {
    const history = this.#history.get(type.name) ?? [];
    this.#history.set(type.name, history);
    history.push(change);
    if (history.length > historyLength) history.shift();
    for (const listener of [...(this.#listeners.get(type.name) ?? [])]) listener(change);
  }
}
