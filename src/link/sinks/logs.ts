import type { Duplex } from "node:stream";
import type { LinkEngine } from "#link/engine.ts";
import type { MachineLogs } from "#link/logs/machine-logs.ts";

/** Port inside the link (protocols.md 0.1). */
export const logsPort = 8092;
/** A longer line is cut into several. */
const longestLine = 64 * 1024;
/** Characters that are remembered of all pending machines together. */
const mostPending = 8 << 20;

/**
 * Takes log lines, JSON one each (protocols.md 4.3). Nothing is ever written back; strangers are hung up on. What a machine said while it
 * was pending is kept once it is admitted: it is its first boot, and is not said again.
 */
export async function listenForLogs(
  engine: LinkEngine,
  machineAt: (address: string) => string | undefined,
  isPending: (address: string) => boolean,
  logs: MachineLogs,
): Promise<{ admitted(address: string, uuid: string): void; close(): Promise<void> }> {
  const open = new Set<Duplex>();
  const pending = new PendingLines();
  const listener = await engine.listen(logsPort, ({ stream, remoteAddress }) => {
    stream.on("error", () => stream.destroy());
    if (machineAt(remoteAddress) === undefined && !isPending(remoteAddress)) {
      stream.destroy();
      return;
    }
    open.add(stream);
    stream.once("close", () => open.delete(stream));
    let rest = "";
    const decoder = new TextDecoder();
    stream.on("data", (chunk: Uint8Array) => {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n").flatMap(cut);
      rest = lines.pop() ?? "";
      // Looked up for each chunk: a machine is admitted, or forgotten, while its connection lasts.
      const uuid = machineAt(remoteAddress);
      for (const line of lines.map(withoutTokens)) {
        if (!line.trim()) continue;
        if (uuid !== undefined) logs.append(uuid, line);
        else if (isPending(remoteAddress)) pending.add(remoteAddress, line);
      }
    });
    stream.once("end", () => stream.end());
  });
  return {
    admitted(address, uuid) {
      for (const line of pending.take(address)) logs.append(uuid, line);
    },
    async close() {
      await listener.close();
      // Machines never read: only a reset tells them at once.
      for (const stream of open) stream.destroy();
    },
  };
}

/** The kernel tells the command line that it was booted with, and the join token stands there: many more may read logs than tokens. */
function withoutTokens(line: string): string {
  return line.replace(/(jointoken(?:=|%3d))[^\s&"'\\]+/gi, "$1******");
}

/** A line in pieces that are not too long; at least one. */
function cut(line: string): string[] {
  const pieces = [line.slice(0, longestLine)];
  for (let at = longestLine; at < line.length; at += longestLine) pieces.push(line.slice(at, at + longestLine));
  return pieces;
}

/** The lines of machines that are pending. Beyond the bound, whoever was first heard of longest ago is forgotten. */
class PendingLines {
  readonly #lines = new Map<string, string[]>();
  #size = 0;

  add(address: string, line: string): void {
    const lines = this.#lines.get(address) ?? [];
    if (lines.push(line) === 1) this.#lines.set(address, lines);
    this.#size += line.length;
    for (const oldest of this.#lines.keys()) {
      if (this.#size <= mostPending) break;
      this.take(oldest);
    }
  }

  take(address: string): readonly string[] {
    const lines = this.#lines.get(address) ?? [];
    this.#lines.delete(address);
    for (const line of lines) this.#size -= line.length;
    return lines;
  }
}
