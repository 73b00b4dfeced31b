import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { IchorError, messageOf } from "#lib/errors.ts";

/** The one directory that a plane keeps its state in; private to its user. */
export class DataDirectory {
  readonly path: string;
  readonly #lock: DatabaseSync;

  /**
   * Makes it where there is none, and locks it until `close` or the end of the process. Throws `failed_precondition` when another plane
   * runs on it, `permission_denied` when it cannot be written.
   */
  constructor(path: string) {
    this.path = path;
    try {
      makeDirectory(path);
      this.#lock = new DatabaseSync(join(path, "lock"), { timeout: 0 });
    } catch (cause) {
      throw new IchorError("permission_denied", `the data directory ${path} cannot be used: ${messageOf(cause)}`, {
        cause,
      });
    }
    try {
      // The kernel lets go of this lock when the process dies, however it dies.
      this.#lock.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
    } catch (cause) {
      this.#lock.close();
      throw new IchorError("failed_precondition", `another plane runs on the data directory ${path}`, { cause });
    }
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** A file's text, trimmed; undefined when it is not there. */
  read(name: string): string | undefined {
    const file = this.file(name);
    return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
  }

  /** Writes a file that only the plane's user may read, whole or not at all. */
  write(name: string, text: string): void {
    const file = this.file(name);
    writeFileSync(`${file}.new`, text, { mode: 0o600, flush: true });
    renameSync(`${file}.new`, file);
  }

  /** The key that secrets are sealed under, 32 bytes; made at the first start. Throws `data_loss` when it is damaged. */
  masterKey(): Uint8Array {
    const file = this.file("master.key");
    if (!existsSync(file)) {
      if (existsSync(this.file("ichor.db")))
        throw new IchorError(
          "data_loss",
          `${file} is missing: without it the secrets in ichor.db cannot be read; put it back`,
        );
      this.write("master.key", `${randomBytes(32).toString("base64")}\n`);
    }
    chmodSync(file, 0o600);
    const key = Buffer.from(readFileSync(file, "utf8").trim(), "base64");
    if (key.length !== 32) throw new IchorError("data_loss", `${file} does not hold a key of 32 bytes in base64`);
    return key;
  }

  close(): void {
    this.#lock.close();
  }
}

/** With its parents. Not Node's own recursion: that goes round for ever where a file system makes no directories, such as /proc. */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  if (!existsSync(dirname(path))) makeDirectory(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}
