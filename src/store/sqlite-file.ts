import { closeSync, fsyncSync, mkdirSync, openSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { IchorError, messageOf } from "#lib/errors.ts";

/** One row: key, the rest of the metadata as JSON (null = delete the row), length of the spec within the group's bytes, whether it is sealed. */
export type Row = readonly [
  namespace: string,
  type: string,
  id: string,
  metadata: string | null,
  length: number,
  sealed: boolean,
];

/** Rows and, one after the other, their specs. */
export interface Rows {
  readonly rows: readonly Row[];
  readonly specs: Uint8Array;
}

/** What is known of the store as a whole; written with each group. */
export interface Head {
  /** Of the last write. */
  readonly revision: number;
  /** Which run of the store made that write: marks bookmarks. */
  readonly epoch: string;
  /** Of the master key that seals rows; empty = none. */
  readonly keyId: string;
}

/** `ICHR`: tells our files from other SQLite files. */
const applicationId = 0x49434852;
/** Counts up with each change of the tables. */
const schemaVersion = 1;
const schema = `
  CREATE TABLE head (revision INTEGER NOT NULL, epoch TEXT NOT NULL, key_id TEXT NOT NULL) STRICT;
  INSERT INTO head VALUES (0, lower(hex(randomblob(6))), '');
  CREATE TABLE resource (
    namespace TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
    metadata TEXT NOT NULL, sealed INTEGER NOT NULL, spec BLOB NOT NULL,
    PRIMARY KEY (namespace, type, id)
  ) STRICT;
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = ${schemaVersion};`;

/** The database file, seen from the thread that owns it: everything here blocks until it is on disk. */
export class SqliteFile {
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #head: StatementSync;

  /**
   * Opens or makes the file, and locks it until closed. Throws `data_loss` for a damaged file, `failed_precondition` for one that is newer,
   * in use or not ours, `resource_exhausted` when the disk is full, `unavailable` when the system refuses.
   */
  constructor(path: string) {
    this.#path = path;
    try {
      makeFile(path);
      this.#db = new DatabaseSync(path, { timeout: 2_000 });
    } catch (error) {
      throw explain(path, error);
    }
    try {
      this.#prepare();
      this.#put = this.#db.prepare(
        `INSERT INTO resource (namespace, type, id, metadata, sealed, spec) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET metadata = excluded.metadata, sealed = excluded.sealed, spec = excluded.spec`,
      );
      this.#delete = this.#db.prepare("DELETE FROM resource WHERE namespace = ? AND type = ? AND id = ?");
      this.#head = this.#db.prepare("UPDATE head SET revision = ?, epoch = ?, key_id = ?");
    } catch (error) {
      this.#db.close();
      throw explain(path, error);
    }
  }

  head(): Head {
    try {
      return this.#db.prepare("SELECT revision, epoch, key_id AS keyId FROM head").get() as unknown as Head;
    } catch (error) {
      throw explain(this.#path, error);
    }
  }

  /** All rows, in groups of about `size` bytes of specs. */
  *load(size = 1 << 20): Generator<Rows> {
    let rows: Row[] = [];
    let specs: Uint8Array[] = [];
    let bytes = 0;
    const take = (): Rows => {
      const group = { rows, specs: new Uint8Array(Buffer.concat(specs)) };
      rows = [];
      specs = [];
      bytes = 0;
      return group;
    };
    try {
      const all = this.#db.prepare("SELECT namespace, type, id, metadata, sealed, spec FROM resource").iterate();
      for (const { namespace, type, id, metadata, sealed, spec } of all) {
        const content = spec as Uint8Array;
        rows.push([String(namespace), String(type), String(id), String(metadata), content.length, sealed === 1]);
        specs.push(content);
        bytes += content.length;
        if (bytes >= size || rows.length >= 4096) yield take();
      }
    } catch (error) {
      throw explain(this.#path, error);
    }
    if (rows.length > 0) yield take();
  }

  /** Writes all or nothing; on disk when it returns. */
  commit({ rows, specs }: Rows, head: Head): void {
    let at = 0;
    try {
      this.#db.exec("BEGIN IMMEDIATE");
      for (const [namespace, type, id, metadata, length, sealed] of rows) {
        if (metadata === null) this.#delete.run(namespace, type, id);
        else {
          const spec = specs.subarray(at, at + length);
          this.#put.run(namespace, type, id, metadata, sealed ? 1 : 0, spec);
        }
        at += length;
      }
      this.#head.run(head.revision, head.epoch, head.keyId);
      this.#db.exec("COMMIT");
    } catch (error) {
      // SQLite ends the transaction itself after some errors.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw explain(this.#path, error);
    }
  }

  close(): void {
    this.#db.close();
  }

  #prepare(): void {
    const db = this.#db;
    // One plane per file, as its memory is the truth between writes; it also saves SQLite its shared index.
    db.exec("PRAGMA locking_mode = EXCLUSIVE");
    const { application_id: application } = db.prepare("PRAGMA application_id").get() as { application_id: number };
    const { user_version: version } = db.prepare("PRAGMA user_version").get() as { user_version: number };
    const fresh = db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined && application === 0;
    if (!fresh && application !== applicationId) {
      throw new IchorError(
        "failed_precondition",
        `"${this.#path}" is a database of another program: name another file`,
      );
    }
    if (version > schemaVersion) {
      throw new IchorError(
        "failed_precondition",
        `"${this.#path}" was written by a newer Ichor (format ${version}, this one knows ${schemaVersion}): run that version, or restore a backup from before the upgrade`,
      );
    }
    const { journal_mode: mode } = db.prepare("PRAGMA journal_mode = WAL").get() as { journal_mode: string };
    if (mode !== "wal") {
      throw new IchorError(
        "failed_precondition",
        `"${this.#path}" is on a file system without what SQLite needs (its journal is "${mode}"): use a local disk`,
      );
    }
    db.exec("PRAGMA synchronous = FULL");
    db.exec("BEGIN IMMEDIATE");
    if (fresh) db.exec(schema);
    db.exec("COMMIT");
    if (fresh) syncDirectory(this.#path);
    const { quick_check: verdict } = db.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
    if (verdict !== "ok") throw damaged(this.#path, new Error(verdict));
  }
}

/** SQLite would make it readable by all. */
function makeFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
}

/** The new file's name, too, must survive a loss of power. */
function syncDirectory(path: string): void {
  const directory = openSync(dirname(path), "r");
  fsyncSync(directory);
  closeSync(directory);
}

/** SQLite's primary result codes (sqlite.org/rescode.html). */
const code = { busy: 5, readonly: 8, io: 10, corrupt: 11, full: 13, cannotOpen: 14, notDatabase: 26 };

function explain(path: string, error: unknown): IchorError {
  if (error instanceof IchorError) return error;
  const { errcode, code: system } = error as { errcode?: number; code?: string };
  const primary = (errcode ?? 0) & 0xff;
  if (primary === code.full || system === "ENOSPC" || system === "EDQUOT" || (primary === code.io && isFull(path))) {
    const message = `the disk that holds "${path}" is full: nothing was changed; free some space and try again`;
    return new IchorError("resource_exhausted", message, { cause: error });
  }
  switch (primary) {
    case code.corrupt:
    case code.notDatabase:
      return damaged(path, error);
    case code.busy:
      return new IchorError("failed_precondition", `"${path}" is in use: another Ichor runs on this data`, {
        cause: error,
      });
    default:
      return new IchorError("unavailable", `"${path}" cannot be read or written: ${messageOf(error)}`, {
        cause: error,
      });
  }
}

function damaged(path: string, cause: unknown): IchorError {
  const message = `"${path}" is damaged: restore it from a backup, or move it away to start with nothing`;
  return new IchorError("data_loss", message, { cause });
}

function isFull(path: string): boolean {
  try {
    return statfsSync(dirname(path)).bavail === 0;
  } catch {
    return false;
  }
}
