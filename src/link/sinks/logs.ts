import type { Duplex } from "node:stream";
import type { LinkEngine } from "#link/engine.ts";
import type { MachineLogs } from "#link/logs/machine-logs.ts";

/** Port inside the link (protocols.md 0.1). */
export const logsPort = 8092;
/** A longer line is cut into several. */
const longestLine = 64 * 1024;

/** Takes log lines, JSON one each (protocols.md 4.3). Nothing is ever written back; strangers are hung up on. */
export async function listenForLogs(
  engine: LinkEngine,
  machineAt: (address: string) => string | undefined,
  isPending: (address: string) => boolean,
  logs: MachineLogs,
): Promise<{ close(): Promise<void> }> {
  const open = new Set<Duplex>();
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
      if (uuid !== undefined) for (const line of lines) if (line.trim()) logs.append(uuid, line);
    });
    stream.once("end", () => stream.end());
  });
  return {
    async close() {
      await listener.close();
      // Machines never read: only a reset tells them at once.
      for (const stream of open) stream.destroy();
    },
  };
}

/** A line in pieces that are not too long; at least one. */
function cut(line: string): string[] {
  const pieces = [line.slice(0, longestLine)];
  for (let at = longestLine; at < line.length; at += longestLine) pieces.push(line.slice(at, at + longestLine));
  return pieces;
}
