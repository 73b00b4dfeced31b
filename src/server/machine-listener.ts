import { createServer, type Http2SecureServer, type Http2Server } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { withAuthority } from "#lib/authority.ts";
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
  const server = createServer(withAuthority(connectNodeAdapter({ routes, grpcWeb: false, connect: false })));
  await open(server, bind, "--machine-api");
  return { port: (server.address() as AddressInfo).port, close: () => stopServer(server) };
}

type AnyServer = Http2Server | Http2SecureServer;

/** Starts listening. Throws `already_exists` that names the flag to choose another port with. */
export function open(
  server: AnyServer,
  { host, port }: { readonly host: string; readonly port: number },
  flag: string,
): Promise<void> {
  const connections = new Set<Socket>();
  opened.set(server, connections);
  const track = (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    socket.on("error", () => socket.destroy());
  };
  server.on("connection", track);
  server.on("sessionError", () => {});
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

/** Connections of each server, so that stopping does not wait for clients that stay. */
const opened = new WeakMap<AnyServer, Set<Socket>>();

/** Stops listening and hangs up on everybody. */
export function stopServer(server: AnyServer): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    for (const socket of opened.get(server) ?? []) socket.destroy();
  });
}
