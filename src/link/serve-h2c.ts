import { createServer, type Http2ServerRequest, type ServerHttp2Session } from "node:http2";
import { type ConnectRouter, type ContextKey, createContextKey, createContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { withAuthority } from "#lib/authority.ts";
import type { LinkEngine } from "./engine.ts";

/** Who calls, inside the link: the only identity there is. */
export const callerAddress: ContextKey<string> = createContextKey("", { description: "address inside the link" });

/** Serves gRPC over plaintext HTTP/2 on a port of the plane's address inside the link. */
export async function serveH2C(
  engine: LinkEngine,
  port: number,
  routes: (router: ConnectRouter) => void,
): Promise<{ close(): Promise<void> }> {
  const callers = new WeakMap<object, string>();
  const handler = connectNodeAdapter({
    routes,
    connect: false,
    grpcWeb: false,
    readMaxBytes: 4 << 20,
    contextValues: (request) => {
      const { session } = (request as Http2ServerRequest).stream;
      return createContextValues().set(callerAddress, (session && callers.get(session)) ?? "");
    },
  });
  const server = createServer(withAuthority(handler));
  const sessions = new Set<ServerHttp2Session>();
  let arriving = "";
  server.on("session", (session) => {
    // Emitted while the connection below is handed over, so this is its caller.
    callers.set(session, arriving);
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.on("error", () => session.destroy());
  });
  const listener = await engine.listen(port, ({ stream, remoteAddress }) => {
    stream.on("error", () => stream.destroy());
    arriving = remoteAddress;
    server.emit("connection", stream);
  });
  return {
    async close() {
      await listener.close();
      for (const session of sessions) session.destroy();
    },
  };
}
