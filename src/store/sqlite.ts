import { randomBytes } from "node:crypto";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { type Logger, silent } from "#lib/log.ts";
import { type Key, keyText, type Metadata } from "#resource/resource.ts";
import type { Change } from "./history.ts";
import { type MemoryOptions, MemoryStore } from "./memory.ts";
import type { Seal } from "./seal.ts";
import type { Row, Rows } from "./sqlite-file.ts";
import { SqliteThread } from "./sqlite-thread.ts";
import type { Store, Stored } from "./store.ts";

/** How to open a store in a file. */
export interface SqliteOptions {
  /** The database file; made when it is not there, with its directory. */
  readonly path: string;
  readonly clock: Clock;
  readonly log?: Logger;
  /** Seals specs at rest; needed again to open the file once something is sealed. */
  readonly seal?: Seal;
  /** Which types are sealed; needs `seal`. Default none. */
  readonly isSealed?: (type: string) => boolean;
  /** Of which sealed types ids are secrets too: those are sealed with the spec, and a keyed hash stands in their place. Default none. */
  readonly hidesId?: (type: string) => boolean;
}

/** What is sealed, and how. */
interface Sealing {
  readonly seal: Seal | undefined;
  readonly isSealed: (type: string) => boolean;
  readonly hidesId: (type: string) => boolean;
}

/**
 * A store in one SQLite file: everything in memory for reading, each write on disk before it answers. Writes that come while the disk is busy
 * share the next transaction. After a restart a watch goes on only from the very last bookmark; older ones give `out_of_range`.
 *
 * Throws `data_loss` for a damaged file, `failed_precondition` for one that is newer, in use, not ours, or sealed under another key,
 * `resource_exhausted` on a full disk; writes on a full disk fail with `resource_exhausted`, change nothing, and work again once there is space.
 */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const { path, clock, log = silent, seal } = options;
  if (options.isSealed && !seal) throw new IchorError("invalid_argument", "sealing needs a master key");
  const { isSealed = () => false, hidesId = () => false } = options;
  const sealing: Sealing = { seal, isSealed, hidesId: (type) => isSealed(type) && hidesId(type) };
  const resources: Stored[] = [];
  const unsealed: Stored[] = [];
  const named: Key[] = [];
  const read = makeReader(path, seal);
  let refusal: unknown;

  const { thread, head } = await SqliteThread.open(
    path,
    (group) => {
      try {
        for (const { stored, sealed, hidden } of read(group)) {
          const { type } = stored.metadata;
          resources.push(stored);
          const showsId = !hidden && sealing.hidesId(type);
          if (showsId) named.push(stored.metadata);
          if (showsId || (!sealed && isSealed(type))) unsealed.push(stored);
        }
      } catch (error) {
        refusal ??= error;
      }
    },
    (error) => log.error({ path, error: error.message, cause: error.cause }, "database thread ended"),
  );
  try {
    checkKey(path, head.keyId, seal);
    if (refusal) throw refusal;
    const keyId = seal?.keyId ?? "";
    const write = (rows: Rows, revision: number, epoch: string) => thread.commit(rows, { revision, epoch, keyId });
    // A kind that has become a secret since: what lies there in plain text is sealed now.
    if (unsealed.length > 0) await write(pack(unsealed, [], sealing, named), head.revision, head.epoch);

    const epoch = randomBytes(6).toString("hex");
    const memory: MemoryOptions = {
      clock,
      epoch,
      initial: { ...head, resources },
      persist: (changes) => {
        const { puts, gone } = last(changes);
        return write(pack(puts, gone, sealing), changes.at(-1)!.revision, epoch);
      },
    };
    log.info({ path, resources: resources.length, revision: head.revision }, "store opened");
    return new SqliteStore(memory, thread);
  } catch (error) {
    await thread.close();
    throw error;
  }
}

/** The memory and the thread behind it, closed together. */
class SqliteStore extends MemoryStore {
  readonly #thread: SqliteThread;
  #closing: Promise<void> | undefined;

  constructor(options: MemoryOptions, thread: SqliteThread) {
    super(options);
    this.#thread = thread;
  }

  override close(): Promise<void> {
    this.#closing ??= super.close().then(() => this.#thread.close());
    return this.#closing;
  }
}

function checkKey(path: string, keyId: string, seal: Seal | undefined): void {
  if (!keyId || keyId === seal?.keyId) return;
  const given = seal ? `the one given is ${seal.keyId}` : "none is given";
  throw new IchorError(
    "failed_precondition",
    `"${path}" is sealed under the master key ${keyId}, ${given}: start with the key that this data was made with`,
  );
}

/** What each resource is after a group of changes. */
function last(changes: readonly Change[]): { puts: Stored[]; gone: Key[] } {
  const byKey = new Map(changes.map((change) => [keyText(change.key), change]));
  const puts: Stored[] = [];
  const gone: Key[] = [];
  for (const { key, after } of byKey.values()) {
    if (after) puts.push(after);
    else gone.push(key);
  }
  return { puts, gone };
}

/** Rows of what is to be put and what is to go; `named` go by their plain ids, whatever is hidden by now. */
function pack(puts: readonly Stored[], gone: readonly Key[], sealing: Sealing, named: readonly Key[] = []): Rows {
  const { seal, isSealed, hidesId } = sealing;
  const rowId = (key: Key) => (seal && hidesId(key.type) ? seal.nameOf(key) : key.id);
  const specs: Uint8Array[] = [];
  const rows: Row[] = named.map(({ namespace, type, id }) => [namespace, type, id, null, 0, false]);
  for (const { metadata, spec } of puts) {
    const { namespace, type, id, ...rest } = metadata;
    const place = { namespace, type, id: rowId(metadata) };
    const hidden = place.id !== id;
    const sealed = seal !== undefined && isSealed(type);
    const content = sealed ? seal.seal(hidden ? withId(id, spec) : spec, place) : spec;
    specs.push(content);
    const json = JSON.stringify(hidden ? { ...rest, idSealed: true } : rest);
    rows.push([namespace, type, place.id, json, content.length, sealed]);
  }
  for (const key of gone) rows.push([key.namespace, key.type, rowId(key), null, 0, false]);
  const bytes = new Uint8Array(specs.reduce((sum, spec) => sum + spec.length, 0));
  let at = 0;
  for (const spec of specs) {
    bytes.set(spec, at);
    at += spec.length;
  }
  return { rows, specs: bytes };
}

/** An id and a spec in one: length of the id in bytes (4), id, spec. */
function withId(id: string, spec: Uint8Array): Uint8Array {
  const text = Buffer.from(id);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, text, spec]);
}

/** The inverse of {@link withId}. */
function splitId(content: Uint8Array): { id: string; spec: Uint8Array } {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  const end = 4 + bytes.readUInt32BE();
  return { id: bytes.toString("utf8", 4, end), spec: content.slice(end) };
}

/** Turns rows into resources; texts that many share (namespace, type, owner) are kept once. */
function makeReader(
  path: string,
  seal: Seal | undefined,
): (rows: Rows) => Iterable<{ stored: Stored; sealed: boolean; hidden: boolean }> {
  const texts = new Map<string, string>();
  const shared = (text: string) => {
    const known = texts.get(text);
    if (known === undefined) texts.set(text, text);
    return known ?? text;
  };
  return function* ({ rows, specs }) {
    let at = 0;
    for (const [namespace, type, id, json, length, sealed] of rows) {
      const key = { namespace: shared(namespace), type: shared(type), id };
      const content = specs.slice(at, at + length);
      at += length;
      // Without any key at all the check of the head says what is wrong.
      const opened = sealed && seal ? seal.open(content, key) : content;
      const { idSealed: hidden = false, ...rest } = parse(path, key, json);
      const { id: name, spec } = hidden && seal ? splitId(opened) : { id, spec: opened };
      yield { stored: { metadata: { ...key, ...rest, id: name, owner: shared(rest.owner) }, spec }, sealed, hidden };
    }
  };
}

function parse(path: string, key: Key, json: string | null): Omit<Metadata, keyof Key> & { idSealed?: boolean } {
  try {
    const rest: unknown = JSON.parse(json ?? "");
    if (typeof rest === "object" && rest !== null && "version" in rest && "owner" in rest)
      return rest as Omit<Metadata, keyof Key>;
  } catch {
    // Said below.
  }
  throw new IchorError(
    "data_loss",
    `"${path}" is damaged at ${keyText(key)}: restore it from a backup, or move it away to start with nothing`,
  );
}
