import { createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { IchorError, messageOf } from "#lib/errors.ts";
import { formatHostPort } from "#lib/ip.ts";

/** A listener that is open. */
export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

/** Opens the machine API: gRPC over plaintext HTTP/2, as machines call it before they have a tunnel (protocols.md 0.3). */
export async function listenForMachines(
  bind: { readonly host: string; readonly port: number },
  routes: (router: ConnectRouter) => void,
): Promise<Listener> {
  const server = createServer(connectNodeAdapter({ routes, grpcWeb: false, connect: false }));
  const sessions = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.once("error", () => session.destroy());
  });
  await open(server, bind, "--machine-api");
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
      }),
  };
}

/** Starts listening. Throws `already_exists` that names the flag to choose another port with. */
export function open(
  server: Pick<Http2Server, "once" | "off" | "listen">,
  { host, port }: { readonly host: string; readonly port: number },
  flag: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => {
      const where = formatHostPort(host, port);
      reject(
        new IchorError(
          "already_exists",
          `cannot listen on ${where}: ${messageOf(cause)}; choose another with ${flag}`,
          {
            cause,
          },
        ),
      );
    };
    server.once("error", fail);
    server.listen(port, host, () => {
      server.off("error", fail);
      resolve();
    });
  });
}
