import { mkdirSync, readdirSync, statSync } from "node:fs";
import { appendFile, readFile, rename, rm, unlink } from "node:fs/promises";
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

/** Lines wait this long for the disk, so that a talkative fleet costs one write for each machine and not one for each line. */
const flushAfter = 500;
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
  readonly #age: number;
  readonly #waiting = new Map<string, Waiting>();
  readonly #sizes = new Map<string, number>();
  readonly #followers = new Map<string, Set<Follower>>();
  #timer: Timer | undefined;
  #turn: Promise<void> = Promise.resolve();
  #failing = false;

  constructor(options: { readonly directory: string; readonly clock: Clock; readonly log: Logger } & LogLimits) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#half = (options.size ?? 4 << 20) / 2;
    this.#age = options.age ?? 30 * 86_400_000;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(this.#directory)) {
      if (name.endsWith(".log")) this.#sizes.set(name.slice(0, -4), statSync(join(this.#directory, name)).size);
    }
  }

  /** Takes one line, without its end. */
  append(uuid: string, line: string): void {
    const waiting = this.#waiting.get(uuid) ?? { lines: [], bytes: 0, taken: 0 };
    this.#waiting.set(uuid, waiting);
    waiting.lines.push(line);
    waiting.bytes += line.length + 1;
    while (waiting.bytes > mostWaiting) {
      waiting.bytes -= (waiting.lines.shift()?.length ?? 0) + 1;
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
    // In turn with the writing, so that no line is between memory and disk meanwhile.
    const reading = this.#turn.then(() => this.#tail(uuid, count));
    this.#turn = reading.then(
      () => {},
      () => {},
    );
    return reading;
  }

  async #tail(uuid: string, count: number): Promise<string[]> {
    const old = this.#clock.now() - this.#age;
    const parts: string[] = [];
    for (const suffix of [".old", ".log"]) {
      const path = this.#path(uuid, suffix);
      try {
        if (statSync(path).mtimeMs >= old) parts.push(await readFile(path, "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    const lines = parts.join("").split("\n").filter(Boolean);
    lines.push(...(this.#waiting.get(uuid)?.lines ?? []));
    return count < 0 ? lines : lines.slice(Math.max(0, lines.length - count));
  }

  /** The last lines, then new ones as they come, until the signal aborts. A reader that is too slow is told what it missed. */
  async *follow(uuid: string, tailLines: number, signal: AbortSignal): AsyncGenerator<string> {
    const follower: Follower = { lines: [], dropped: 0, wake: () => {} };
    const all = this.#followers.get(uuid) ?? new Set();
    const before = await this.tail(uuid, tailLines);
    this.#followers.set(uuid, all.add(follower));
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
    for (const suffix of [".old", ".log"]) await rm(this.#path(uuid, suffix), { force: true });
  }

  /** Writes what waits. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#turn;
    await this.#flush();
  }

  async #flush(): Promise<void> {
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
      waiting.bytes -= written.reduce((sum, line) => sum + line.length + 1, 0);
      if (waiting.lines.length === 0) this.#waiting.delete(uuid);
    }
  }

  async #write(uuid: string, text: string): Promise<void> {
    const path = this.#path(uuid, ".log");
    let size = this.#sizes.get(uuid) ?? 0;
    if (size + text.length > this.#half && size > 0) {
      await rename(path, this.#path(uuid, ".old")).catch(() => unlink(path));
      size = 0;
    }
    await appendFile(path, text, { mode: 0o600 });
    this.#sizes.set(uuid, size + Buffer.byteLength(text));
  }

  #path(uuid: string, suffix: string): string {
    return join(this.#directory, `${uuid}${suffix}`);
  }
}
