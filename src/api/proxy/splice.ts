import type { Duplex } from "node:stream";

/**
 * Joins two connections until both directions are done. Each direction ends by itself (half-close); an error, or the loss of one, takes
 * the other with it. Resolves when both are closed; never rejects.
 */
export function splice(a: Duplex, b: Duplex): Promise<void> {
  return new Promise((resolve) => {
    let open = 2;
    const join = (from: Duplex, to: Duplex) => {
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.once("close", () => {
        // A whole end was passed on by pipe; anything else must not look like one.
        if (!from.readableEnded || !from.writableFinished) to.destroy();
        open--;
        if (open === 0) resolve();
      });
      if (from.destroyed) to.destroy();
    };
    join(a, b);
    join(b, a);
    if (a.closed || b.closed) {
      a.destroy();
      b.destroy();
      resolve();
    }
  });
}
