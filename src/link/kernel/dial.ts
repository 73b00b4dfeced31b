import { connect, type Socket } from "node:net";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { formatHostPort } from "#lib/ip.ts";

/** A connection may take so long to come about. */
const patience = 30_000;

/** How all TCP inside the link is: small messages leave at once, and a silent peer is asked whether it lives. */
export const keepAlive = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 120_000 } as const;

/** TCP of the operating system. Throws `unavailable` when it is refused or nobody answers in 30 s; the signal's reason when that aborts. */
export function dial(address: string, port: number, clock: Clock, signal?: AbortSignal): Promise<Socket> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, ...keepAlive });
    const peer = formatHostPort(address, port);
    const done = () => {
      timer.cancel();
      signal?.removeEventListener("abort", stop);
      socket.removeListener("error", failed);
    };
    const fail = (error: unknown) => {
      done();
      // What it has to say after that is of no interest.
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const failed = (cause: NodeJS.ErrnoException) => {
      const what = cause.code === "ECONNREFUSED" ? "was refused" : `failed: ${cause.message}`;
      fail(new IchorError("unavailable", `connection to ${peer} ${what}`, { cause }));
    };
    const stop = () => fail(signal?.reason);
    const timer = clock.after(patience, () => {
      fail(new IchorError("unavailable", `connection to ${peer} timed out: nobody answers`));
    });
    signal?.addEventListener("abort", stop, { once: true });
    socket.on("error", failed);
    socket.once("connect", () => {
      done();
      resolve(socket);
    });
  });
}
