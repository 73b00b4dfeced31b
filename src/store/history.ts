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

/** What is kept of the changes of one kind. */
export interface HistoryLimits {
  /** Default 10,000. */
  readonly changes?: number;
  /** Of the specs in them, roughly. Default 4 MiB. */
  readonly bytes?: number;
}

interface Log {
  /** In order of revision. */
  changes: Change[];
  bytes: number;
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
  readonly #start: { readonly revision: number; readonly epoch: string };
  readonly #limits: Required<HistoryLimits>;
  readonly #logs = new Map<string, Log>();
  #revision: number;
  #floor: number;
  #closed = false;

  /**
   * `epoch` marks bookmarks of this history, so that those of another (a backup that was brought back, then written to) are not taken for
   * ours. `start` is where it begins: the last revision before, and the epoch that it was made in.
   */
  constructor(epoch: string, start: { revision: number; epoch: string }, limits: HistoryLimits = {}) {
    this.#epoch = epoch;
    this.#start = start;
    this.#limits = { changes: limits.changes ?? 10_000, bytes: limits.bytes ?? 4 << 20 };
    this.#revision = start.revision;
    this.#floor = start.revision;
  }

  get revision(): number {
    return this.#revision;
  }

  bookmark(revision: number = this.#revision): Bookmark {
    return `${revision === this.#start.revision ? this.#start.epoch : this.#epoch}.${revision}`;
  }

  append(scope: string, change: Change): void {
    this.#revision = change.revision;
    const log = this.#log(scope);
    log.changes.push(change);
    log.bytes += sizeOf(change);
    // Cut a quarter at a time: amortised O(1).
    const { changes, bytes } = this.#limits;
    if (log.changes.length > changes * 1.25 || log.bytes > bytes * 1.25) {
      let cut = 0;
      let left = log.bytes;
      // The newest stays, however large it is.
      while (cut < log.changes.length - 1 && (log.changes.length - cut > changes || left > bytes))
        left -= sizeOf(log.changes[cut++]!);
      forget(log, cut);
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
    const revision = revisionOf(bookmark);
    const forgotten = Math.max(this.#floor, this.#logs.get(scope)?.forgotten ?? 0);
    if (revision < forgotten || revision > this.#revision || bookmark !== this.bookmark(revision)) {
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

  /** Forgets what came before the bookmark; watches that have not read it yet end with `resource_exhausted`. */
  compact(bookmark: Bookmark): void {
    const revision = revisionOf(bookmark);
    if (revision > this.#revision || bookmark !== this.bookmark(revision))
      throw new IchorError("out_of_range", "this bookmark is of another history");
    this.#floor = Math.max(this.#floor, revision);
    for (const log of this.#logs.values()) {
      const keep = log.changes.findIndex((change) => change.revision > revision);
      forget(log, keep === -1 ? log.changes.length : keep);
    }
  }

  close(): void {
    this.#closed = true;
    for (const log of this.#logs.values()) for (const wake of log.waiting) wake();
  }

  #log(scope: string): Log {
    let log = this.#logs.get(scope);
    if (!log) {
      log = { changes: [], bytes: 0, forgotten: 0, waiting: new Set() };
      this.#logs.set(scope, log);
    }
    return log;
  }
}

function forget(log: Log, count: number): void {
  for (const change of log.changes.splice(0, count)) {
    log.bytes -= sizeOf(change);
    log.forgotten = change.revision;
  }
}

function sizeOf({ before, after }: Change): number {
  return 512 + (before?.spec.length ?? 0) + (after?.spec.length ?? 0);
}

function revisionOf(bookmark: Bookmark): number {
  const match = /^[0-9a-f]+\.(\d{1,15})$/.exec(bookmark);
  if (!match) throw new IchorError("invalid_argument", "this is not a bookmark of a watch");
  return Number(match[1]);
}
