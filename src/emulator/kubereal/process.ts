import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import type { Logger } from "#lib/log.ts";

/**
 * Runs its arguments as a child and ends it when standard input does: the emulator holds the other end of that pipe, and the kernel closes it
 * however the emulator ends.
 */
const guard = `exec 3<&0
"$@" </dev/null 3<&- & child=$!
{ cat <&3 >/dev/null; kill -KILL $child; } 2>/dev/null & watcher=$!
exec 3<&-
wait $child
code=$?
kill $watcher 2>/dev/null
exit $code`;

/** A program that is kept running. */
export interface Daemon {
  readonly name: string;
  readonly path: string;
  /** Asked at each start: ports may be others. */
  readonly args: () => Promise<readonly string[]>;
  /** Its output, overwritten at each start. */
  readonly logFile: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Runs a program until the signal aborts, again after each end; resolves when it is gone. */
export async function keepRunning(daemon: Daemon): Promise<void> {
  const { clock, signal, log, name } = daemon;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const started = clock.monotonic();
    const code = await runOnce(daemon, await daemon.args());
    if (signal.aborted) return;
    log.warn({ program: name, code, output: lastLines(daemon.logFile) }, "program of an emulated cluster ended");
    if (clock.monotonic() - started > 30_000) attempt = 0;
    await sleep(backoffDelay(attempt, { initial: 200, max: 10_000 }), clock, signal).catch(() => {});
  }
}

async function runOnce({ path, logFile, signal }: Daemon, args: readonly string[]): Promise<number> {
  if (signal.aborted) return 0;
  const output = openSync(logFile, "w", 0o600);
  let child: ChildProcess;
  try {
    child = spawn("/bin/sh", ["-c", guard, "sh", path, ...args], {
      stdio: ["pipe", output, output],
      // Ctrl-C in a terminal is for the emulator alone.
      detached: true,
    });
  } finally {
    closeSync(output);
  }
  const { promise, resolve } = Promise.withResolvers<number>();
  child.once("error", () => resolve(127));
  child.once("exit", (code) => resolve(code ?? 1));
  child.stdin?.on("error", () => {});
  const stop = () => child.stdin?.destroy();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

/** The end of a program's output, for the log. */
export function lastLines(file: string): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-3).join("\n").slice(-1000);
  } catch {
    return "";
  }
}
