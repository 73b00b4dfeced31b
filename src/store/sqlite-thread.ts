import { Worker } from "node:worker_threads";
import { type Code, IchorError } from "#lib/errors.ts";
import type { Head, Rows } from "./sqlite-file.ts";

/** What the thread is asked. */
export type Request = ({ readonly kind: "commit"; readonly head: Head } & Rows) | { readonly kind: "close" };

/** What it answers: any number of `rows` and then `ready` at the start; later one `done` or `failed` for each request. */
export type Answer =
  | ({ readonly kind: "rows" } & Rows)
  | { readonly kind: "ready"; readonly head: Head }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly code: Code; readonly message: string; readonly cause: string | undefined };

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: IchorError) => void;
}

/** The thread that owns a database file, so that waiting for the disk holds up nobody else. */
export class SqliteThread {
  readonly #worker: Worker;
  readonly #pending: Pending[] = [];
  #dead: IchorError | undefined;
  /** True while its end would be a surprise. */
  #open = false;

  /** `onRows` gets what is in the file; `onDeath` is told when the thread ends unasked: nothing can be written any more. */
  static async open(
    path: string,
    onRows: (rows: Rows) => void,
    onDeath: (error: IchorError) => void,
  ): Promise<{ thread: SqliteThread; head: Head }> {
    const thread = new SqliteThread(path, onRows, onDeath);
    const answer = await thread.#wait();
    if (answer.kind !== "ready") throw new IchorError("internal", "the database thread did not start");
    return { thread, head: answer.head };
  }

  private constructor(path: string, onRows: (rows: Rows) => void, onDeath: (error: IchorError) => void) {
    this.#worker = new Worker(new URL("./sqlite-worker.ts", import.meta.url), {
      workerData: { path },
      // The thread reads nothing but its path; a debugger's or a test runner's flags are not for it.
      execArgv: ["--disable-warning=ExperimentalWarning"],
      name: "store",
    });
    const die = (cause?: unknown) => {
      if (this.#dead) return;
      this.#dead = new IchorError("unavailable", `the thread that writes "${path}" has ended: start again`, { cause });
      for (const { reject } of this.#pending.splice(0)) reject(this.#dead);
      if (this.#open) onDeath(this.#dead);
    };
    this.#worker.on("error", die);
    this.#worker.on("exit", () => die());
    this.#worker.on("message", (answer: Answer) => {
      if (answer.kind === "rows") return onRows(answer);
      if (answer.kind === "ready") this.#open = true;
      const pending = this.#pending.shift();
      if (this.#pending.length === 0) this.#worker.unref();
      if (answer.kind === "failed")
        pending?.reject(new IchorError(answer.code, answer.message, { cause: answer.cause }));
      else pending?.resolve(answer);
    });
  }

  /** Resolves when the rows are on disk; rejects when none of them is. Takes the bytes of the specs away from the caller. */
  async commit(rows: Rows, head: Head): Promise<void> {
    await this.#ask({ kind: "commit", head, ...rows }, [rows.specs.buffer as ArrayBuffer]);
  }

  /** Closes the file and ends the thread. */
  async close(): Promise<void> {
    if (this.#dead) return;
    this.#open = false;
    const exit = new Promise((resolve) => this.#worker.once("exit", resolve));
    await this.#ask({ kind: "close" });
    this.#worker.ref();
    await exit;
  }

  #ask(request: Request, transfer: ArrayBuffer[] = []): Promise<Answer> {
    if (this.#dead) return Promise.reject(this.#dead);
    this.#worker.postMessage(request, transfer);
    return this.#wait();
  }

  /** Keeps the process alive while something is asked, and only then. */
  #wait(): Promise<Answer> {
    this.#worker.ref();
    return new Promise((resolve, reject) => this.#pending.push({ resolve, reject }));
  }
}
