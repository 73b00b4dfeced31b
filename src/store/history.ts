import { IchorError } from "#lib/errors.ts";
import type { Key } from "#resource/resource.ts";
import type { Bookmark, Stored } from "./store.ts";

/** One write: `after` is absent when it destroyed, `before` when it created. */
export interface Change {
  /** Counts up by one with every write of the store. */
  readonly revision: number;
  readonly key: Key;
  readonly before?: Stored;
  readonly after?: Stored;
}

interface Log {
  /** In order of revision. */
  changes: Change[];
  /** Changes up to this revision are forgotten. */
  forgotten: number;
  waiting: Set<() => void>;
}

/**
 * The last changes of each kind. Watches read from it at their own pace, so that a slow one costs nothing until what it has not read
 * is forgotten.
 */
export class History {
  readonly #epoch: string;
  readonly #limit: number;
  readonly #logs = new Map<string, Log>();
  #revision: number;
  #floor: number;
  #closed = false;

  /** `epoch` marks bookmarks of this history; `limit` bounds the changes kept of each kind. */
  constructor(epoch: string, limit: number, revision: number) {
    this.#epoch = epoch;
    this.#limit = limit;
    this.#revision = revision;
    this.#floor = revision;
  }

  get revision(): number {
    return this.#revision;
  }

  bookmark(revision: number = this.#revision): Bookmark {
    return `${this.#epoch}.${revision}`;
  }

  append(scope: string, change: Change): void {
    this.#revision = change.revision;
    const log = this.#log(scope);
    log.changes.push(change);
    // Cut a quarter at a time: amortised O(1).
    if (log.changes.length > this.#limit * 1.25) {
      const cut = log.changes.splice(0, log.changes.length - this.#limit);
      log.forgotten = cut.at(-1)?.revision ?? log.forgotten;
    }
    const waiting = log.waiting;
    log.waiting = new Set();
    for (const wake of waiting) wake();
  }

  /** Changes of a kind after a revision, at most 256. Throws `resource_exhausted` when some are forgotten already. */
  since(scope: string, after: number): readonly Change[] {
    const log = this.#logs.get(scope);
    if (!log) return [];
    if (log.forgotten > after)
      throw new IchorError("resource_exhausted", "this watch fell too far behind: start again with bootstrap");
    let low = 0;
    let high = log.changes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (log.changes[middle]!.revision <= after) low = middle + 1;
      else high = middle;
    }
    return log.changes.slice(low, low + 256);
  }

  /** The revision of a bookmark; `out_of_range` when what followed it is not known any more, `invalid_argument` for other texts. */
  resume(scope: string, bookmark: Bookmark): number {
    const match = /^([0-9a-f]+)\.(\d+)$/.exec(bookmark);
    if (!match) throw new IchorError("invalid_argument", "this is not a bookmark of a watch");
    const revision = Number(match[2]);
    const forgotten = Math.max(this.#floor, this.#logs.get(scope)?.forgotten ?? 0);
    if (match[1] !== this.#epoch || revision < forgotten || revision > this.#revision) {
      throw new IchorError("out_of_range", "the history after this bookmark is not kept: start again with bootstrap");
    }
    return revision;
  }

  /** Resolves true at the next change of the kind, false when the signal aborts or the history closes. */
  wait(scope: string, signal: AbortSignal): Promise<boolean> {
    if (this.#closed || signal.aborted) return Promise.resolve(false);
    const log = this.#log(scope);
    return new Promise((resolve) => {
      const wake = () => {
        signal.removeEventListener("abort", stop);
        resolve(!this.#closed);
      };
      const stop = () => {
        log.waiting.delete(wake);
        resolve(false);
      };
      log.waiting.add(wake);
      signal.addEventListener("abort", stop, { once: true });
    });
  }

  compact(bookmark: Bookmark): void {
    const match = /^([0-9a-f]+)\.(\d+)$/.exec(bookmark);
    if (match?.[1] !== this.#epoch) throw new IchorError("invalid_argument", "this is not a bookmark of this store");
    const revision = Math.min(Number(match[2]), this.#revision);
    this.#floor = Math.max(this.#floor, revision);
    for (const log of this.#logs.values()) {
      const keep = log.changes.findIndex((change) => change.revision > revision);
      log.changes.splice(0, keep === -1 ? log.changes.length : keep);
      log.forgotten = Math.max(log.forgotten, revision);
    }
  }

  close(): void {
    this.#closed = true;
    for (const log of this.#logs.values()) for (const wake of log.waiting) wake();
  }

  #log(scope: string): Log {
    let log = this.#logs.get(scope);
    if (!log) {
      log = { changes: [], forgotten: 0, waiting: new Set() };
      this.#logs.set(scope, log);
    }
    return log;
  }
}
