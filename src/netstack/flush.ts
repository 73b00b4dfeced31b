import { CLOSED, type Connection } from "./connection.ts";
import { schedule } from "./timers.ts";
import { acknowledge, output } from "./transmit.ts";

/**
 * Does, once for all that came in since the last turn, what a connection owes: bytes to its reader, room to its writer,
 * segments and acknowledgements to its peer. Readers may write or destroy while they are called.
 */
export function flush(c: Connection): void {
  c.stream?.deliver();
  if (c.state === CLOSED) return;
  const now = c.host.clock.monotonic();
  admit(c);
  output(c, now);
  acknowledge(c, now);
  schedule(c, now);
}

/** Takes as much of the waiting write as there is room for; calls back when all of it is in. */
export function admit(c: Connection): void {
  for (let write = c.waiting; write; write = c.waiting) {
    for (; write.index < write.chunks.length; write.index++, write.at = 0) {
      const chunk = write.chunks[write.index]!;
      const room = c.sendLimit - c.out.length;
      const end = Math.min(chunk.length, write.at + Math.max(0, room));
      c.out.append(chunk, write.at, end);
      write.at = end;
      if (end < chunk.length) return;
    }
    c.waiting = undefined;
    // May bring the next write at once.
    write.done();
  }
}
