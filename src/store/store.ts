import type { Query } from "#resource/query.ts";
import type { Key, Metadata, Phase } from "#resource/resource.ts";

/** A resource as stored: the spec is its protobuf encoding. Immutable; backends may hand out the same object many times. */
export interface Stored {
  readonly metadata: Metadata;
  readonly spec: Uint8Array;
}

/** All resources of one kind. */
export interface Scope {
  readonly namespace: string;
  readonly type: string;
}

/** An opaque place in the history of a store: made only to resume from, not to be compared. */
export type Bookmark = string;

/** What a watch tells. A filtered watch tells `created` and `destroyed` when a resource moves into or out of the query. */
export type StoreEvent =
  | { readonly kind: "created"; readonly resource: Stored; readonly bookmark: Bookmark }
  | { readonly kind: "updated"; readonly resource: Stored; readonly old: Stored; readonly bookmark: Bookmark }
  | { readonly kind: "destroyed"; readonly resource: Stored; readonly bookmark: Bookmark }
  | { readonly kind: "bootstrapped"; readonly bookmark: Bookmark };

/** How to watch. */
export interface WatchOptions {
  /** One resource only. */
  readonly id?: string;
  readonly query?: Query;
  /**
   * Where to start: `"bootstrap"` tells what exists as `created`, then `bootstrapped`, then changes; `"now"` only changes after the call; a
   * bookmark replays exactly what followed it. A bookmark older than the history throws `out_of_range`: start again with bootstrap.
   */
  readonly from: "bootstrap" | "now" | { readonly bookmark: Bookmark };
  readonly signal: AbortSignal;
}

/** Who writes, and what they take for granted. */
export interface WriteOptions {
  /** Must equal the stored owner; default "" (a user). Else `permission_denied`. */
  readonly owner?: string;
  /** Phase the stored resource must have; default `running`, `"any"` for both. Else `invalid_argument`. */
  readonly expectedPhase?: Phase | "any";
}

/**
 * The core that every backend implements. Each write is atomic and durable before its promise resolves. Errors:
 * `already_exists` (create), `not_found` (update, destroy), `failed_precondition` (update: another version; destroy: finalizers
 * remain), `permission_denied` (another owner), `invalid_argument` (another phase); from backends that keep things on a disk also
 * `resource_exhausted` (it is full: nothing was changed) and `unavailable`.
 *
 * Kept to what etcd can do: revisions, compare-and-set, watch from a revision, compaction.
 */
export interface Store {
  get(key: Key): Promise<Stored | undefined>;
  /** All of a kind, ordered by id, and the bookmark that a watch may go on from. */
  list(scope: Scope, query?: Query): Promise<{ resources: Stored[]; bookmark: Bookmark }>;
  /** Stores version 1; owner, created and updated are set by the store. Answers what was stored. */
  create(resource: Stored, options?: Pick<WriteOptions, "owner">): Promise<Stored>;
  /** Stores version + 1 if `resource.metadata.version` is the stored one. */
  update(resource: Stored, options?: WriteOptions): Promise<Stored>;
  /** Removes it; `version` makes that conditional. */
  destroy(key: Key, options?: Pick<WriteOptions, "owner"> & { version?: number }): Promise<void>;
  /**
   * Events in the order of the writes, none lost, none twice. The iterator ends when the signal aborts. A reader that falls too far
   * behind gets `resource_exhausted` thrown: start again with bootstrap.
   */
  watch(scope: Scope, options: WatchOptions): AsyncIterable<StoreEvent>;
  /** Forgets history before `bookmark`; current resources stay. `out_of_range` when it is not of this history. */
  compact(bookmark: Bookmark): Promise<void>;
  /** Ends watches and releases files. Later calls throw `unavailable`. */
  close(): Promise<void>;
}
