import type { Message } from "@bufbuild/protobuf";
import type { Clock } from "#lib/clock.ts";
import type { Logger } from "#lib/log.ts";
import type { AnyKind, Kind } from "#resource/kind.ts";
import type { Query } from "#resource/query.ts";
import type { Key, Metadata, Resource } from "#resource/resource.ts";
import type { Draft } from "#store/state.ts";

/**
 * A kind that wakes a controller: whenever a resource of it is created, changed or destroyed, and at the start for each that exists. Only
 * the coming and going of finalizers on a running resource wakes nobody.
 */
export interface Input {
  readonly kind: AnyKind;
  /**
   * Which keys of the controller a change of this resource concerns; default: its id. Called with the metadata after a change, and
   * with that before it where labels or annotations differ. May read the store through `reader`. A throw is retried like a failed key.
   */
  readonly wakes?: (metadata: Metadata, reader: Reader) => readonly string[] | Promise<readonly string[]>;
  /** True when the controller puts its finalizer on resources of this kind (it then may use `hold` and `release` on them). */
  readonly holds?: boolean;
}

/** A kind that a controller writes. `shared`: other controllers write other resources of the same kind (owner tells them apart). */
export interface Output {
  readonly kind: AnyKind;
  readonly shared?: boolean;
}

/** Reads resources of the declared inputs and outputs. Anything else throws `permission_denied`: it would not wake the controller. */
export interface Reader {
  get<S extends Message>(kind: Kind<S>, id: string): Promise<Resource<S> | undefined>;
  list<S extends Message>(kind: Kind<S>, query?: Query): Promise<Resource<S>[]>;
}

/** What a reconciler gets: reads inputs, writes outputs, in its own name. */
export interface Context extends Reader {
  /** Creates or edits an output resource that this controller owns. An edit without effect writes nothing. */
  modify<S extends Message>(kind: Kind<S>, id: string, edit: (draft: Draft<S>) => void | boolean): Promise<Resource<S>>;
  /**
   * Tears an output down and destroys it once no finalizer holds it. True when it is gone; else the key is woken when the last
   * finalizer goes: call it again then.
   */
  remove(kind: AnyKind, id: string): Promise<boolean>;
  /** Puts the controller's finalizer on an input declared with `holds`; `invalid_argument` when it is being torn down already. */
  hold(key: Key): Promise<void>;
  /** Takes it off; gone is fine. */
  release(key: Key): Promise<void>;
  /** Reconcile this key again after `ms`, even if nothing changes. */
  again(ms: number): void;
  readonly clock: Clock;
  readonly log: Logger;
  /** Aborts when the engine stops or the controller's time for one key (default 2 min) is over. */
  readonly signal: AbortSignal;
}

/**
 * A reconciler. It takes no event as input: woken with a key, it reads all it needs, acts idempotently, writes only what it owns.
 * A throw is retried with backoff, for that key alone, and shown on the controller's status.
 */
export interface Controller {
  /** Name and owner of its outputs, `cluster-machine-config`: unique. */
  readonly name: string;
  /** One sentence: what it is for. Shown in the graph. */
  readonly purpose: string;
  readonly inputs: readonly Input[];
  readonly outputs: readonly Output[];
  /** Keys reconciled at once; default 1. The same key never twice at once. */
  readonly concurrency?: number;
  /** Reconcile all keys of the first input again after this many milliseconds (jittered); default never. */
  readonly resync?: number;
  /** Longest time for one key, milliseconds; default 120,000. */
  readonly timeout?: number;
  reconcile(key: string, context: Context): Promise<void>;
  /** Called once when the engine stops: close what was opened. */
  close?(): Promise<void>;
}
