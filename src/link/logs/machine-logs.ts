import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Timer } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";

/** Bounds; all have defaults. */
export interface LogLimits {
  /** Bytes a machine, in two files of half of that. Default 4 MiB. */
  readonly size?: number;
  /** Milliseconds that a file is kept. Default 30 days. */
  readonly age?: number;
}

const sizeOf = (line: string) => Buffer.byteLength(line) + 1;

/** Lines wait this long for the disk, so that a talkative fleet costs one write for each machine and not one for each line. */
const flushAfter = 500;
/** How often files that are too old are looked for, while anything is written at all. */
const sweepEvery = 86_400_000;
/** Bytes that wait for a disk that does not take them; older lines go first. */
const mostWaiting = 1 << 20;
/** Lines that a slow follower may be behind. */
const longestQueue = 2000;

interface Waiting {
  readonly lines: string[];
  bytes: number;
  /** How many of the first are being written now. */
  taken: number;
}

interface Follower {
  readonly lines: string[];
  dropped: number;
  wake: () => void;
}

/**
 * Keeps the last lines of every machine: in memory for half a second, then in a file per machine that is turned over at half of its bound.
 * No file stays open; an idle machine costs nothing. A full disk loses lines, never more.
 */
export class MachineLogs {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #half: number;
  readonly #mostWaiting: number;
  readonly #age: number;
  readonly #waiting = new Map<string, Waiting>();
  readonly #sizes = new Map<string, number>();
  /** Files that may end in the middle of a line: after a crash, or a write that failed half way. */
  readonly #torn = new Set<string>();
  readonly #followers = new Map<string, Set<Follower>>();
  #timer: Timer | undefined;
  #turn: Promise<void> = Promise.resolve();
  #failing = false;
  #swept = 0;

  constructor(options: { readonly directory: string; readonly clock: Clock; readonly log: Logger } & LogLimits) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#half = (options.size ?? 4 << 20) / 2;
    this.#mostWaiting = Math.min(mostWaiting, this.#half);
    this.#age = options.age ?? 30 * 86_400_000;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    this.#sweep();
    for (const name of readdirSync(this.#directory)) {
      if (!name.endsWith(".log")) continue;
      this.#sizes.set(name.slice(0, -4), statSync(join(this.#directory, name)).size);
      this.#torn.add(name.slice(0, -4));
    }
  }

  /** Removes files that nobody wrote to for too long: machines that fell silent. */
  #sweep(): void {
    this.#swept = this.#clock.monotonic();
    for (const name of readdirSync(this.#directory)) {
      const path = join(this.#directory, name);
      if (statSync(path).mtimeMs >= this.#oldest()) continue;
      rmSync(path, { force: true });
      if (name.endsWith(".log")) this.#sizes.delete(name.slice(0, -4));
    }
  }

  /** Takes one line, without its end. */
  append(uuid: string, line: string): void {
    const waiting = this.#waiting.get(uuid) ?? { lines: [], bytes: 0, taken: 0 };
    this.#waiting.set(uuid, waiting);
    waiting.lines.push(line);
    waiting.bytes += sizeOf(line);
    while (waiting.bytes > this.#mostWaiting) {
      waiting.bytes -= sizeOf(waiting.lines.shift() ?? "");
      if (waiting.taken > 0) waiting.taken--;
    }
    for (const follower of this.#followers.get(uuid) ?? []) {
      if (follower.lines.length >= longestQueue) {
        follower.lines.shift();
        follower.dropped++;
      }
      follower.lines.push(line);
      follower.wake();
    }
    this.#timer ??= this.#clock.after(flushAfter, () => {
      this.#timer = undefined;
      this.#turn = this.#turn.then(() => this.#flush());
    });
  }

  /** The last lines, oldest first; all that are kept with -1. */
  tail(uuid: string, count = -1): Promise<string[]> {
    return this.#read(uuid, count, () => {});
  }

  /** `then` is called in the moment after which new lines are not in the answer. */
  #read(uuid: string, count: number, then: () => void): Promise<string[]> {
    // In turn with the writing, so that no line is between memory and disk meanwhile.
    const reading = this.#turn.then(() => this.#tail(uuid, count, then));
    this.#turn = reading.then(
      () => {},
      () => {},
    );
    return reading;
  }

  async #tail(uuid: string, count: number, then: () => void): Promise<string[]> {
    const parts: string[] = [];
    for (const suffix of [".old", ".log"]) {
      const path = this.#path(uuid, suffix);
      try {
        if ((await stat(path)).mtimeMs >= this.#oldest()) parts.push(await readFile(path, "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    const lines = parts.flatMap((part) => part.split("\n")).filter(Boolean);
    for (const line of this.#waiting.get(uuid)?.lines ?? []) lines.push(line);
    then();
    return count < 0 ? lines : lines.slice(Math.max(0, lines.length - count));
  }

  /** The last lines, then new ones as they come, until the signal aborts. A reader that is too slow is told what it missed. */
  async *follow(uuid: string, tailLines: number, signal: AbortSignal): AsyncGenerator<string> {
    const follower: Follower = { lines: [], dropped: 0, wake: () => {} };
    const all = this.#followers.get(uuid) ?? new Set();
    const before = await this.#read(uuid, tailLines, () => this.#followers.set(uuid, all.add(follower)));
    const wake = () => follower.wake();
    signal.addEventListener("abort", wake, { once: true });
    try {
      yield* before;
      while (!signal.aborted) {
        if (follower.dropped > 0) {
          yield JSON.stringify({
            msg: `${follower.dropped} lines were not shown: they came faster than they were read`,
          });
          follower.dropped = 0;
        }
        const line = follower.lines.shift();
        if (line !== undefined) yield line;
        else
          await new Promise<void>((resolve) => {
            follower.wake = resolve;
            if (signal.aborted || follower.lines.length > 0) resolve();
          });
      }
    } finally {
      signal.removeEventListener("abort", wake);
      all.delete(follower);
      if (all.size === 0) this.#followers.delete(uuid);
    }
  }

  /** Forgets all lines of a machine. */
  async remove(uuid: string): Promise<void> {
    this.#waiting.delete(uuid);
    await this.#turn;
    this.#sizes.delete(uuid);
    this.#torn.delete(uuid);
    for (const suffix of [".old", ".log"]) await rm(this.#path(uuid, suffix), { force: true });
  }

  /** Writes what waits. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#turn;
    await this.#flush();
  }

  async #flush(): Promise<void> {
    if (this.#clock.monotonic() - this.#swept > sweepEvery) this.#sweep();
    for (const [uuid, waiting] of [...this.#waiting]) {
      const lines = waiting.lines.slice();
      waiting.taken = lines.length;
      try {
        await this.#write(uuid, `${lines.join("\n")}\n`);
        if (this.#failing) this.#log.info({}, "machine logs are kept again");
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) this.#log.error({ error: messageOf(error) }, "machine logs cannot be kept");
        this.#failing = true;
        // They wait for the disk, within the bound.
        continue;
      }
      const written = waiting.lines.splice(0, waiting.taken);
      waiting.bytes -= written.reduce((sum, line) => sum + sizeOf(line), 0);
      if (waiting.lines.length === 0) this.#waiting.delete(uuid);
    }
  }

  async #write(uuid: string, text: string): Promise<void> {
    const path = this.#path(uuid, ".log");
    const bytes = Buffer.from(text);
    let size = this.#sizes.get(uuid) ?? 0;
    if (size + bytes.length > this.#half && size > 0) {
      await rename(path, this.#path(uuid, ".old")).catch(() => rm(path, { force: true }));
      this.#torn.delete(uuid);
      size = 0;
    }
    const file = await open(path, "a+", 0o600);
    try {
      if (this.#torn.has(uuid)) size = await this.#mend(file);
      this.#torn.add(uuid);
      await file.appendFile(bytes);
      this.#torn.delete(uuid);
    } finally {
      await file.close();
    }
    this.#sizes.set(uuid, size + bytes.length);
  }

  /** Ends a line that was cut, so that the next one stands alone; answers the size of the file. */
  async #mend(file: FileHandle): Promise<number> {
    const { size } = await file.stat();
    const last = Buffer.alloc(1);
    if (size === 0 || ((await file.read(last, 0, 1, size - 1)) && last[0] === 0x0a)) return size;
    await file.appendFile("\n");
    return size + 1;
  }

  /** What was last written before then is kept no more. */
  #oldest(): number {
    return this.#clock.now() - this.#age;
  }

  #path(uuid: string, suffix: string): string {
    return join(this.#directory, `${uuid}${suffix}`);
  }
}
