import { X509Certificate } from "node:crypto";
import { createServer, type Http2ServerRequest } from "node:http2";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { createContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Boot } from "#emulator/boot.ts";
import { rejectClient, subjectValues } from "#emulator/pki.ts";
import { acceptTls } from "#emulator/tls.ts";
import { withAuthority } from "#lib/authority.ts";
import { parseIP } from "#lib/ip.ts";
import { type Call, callKey } from "./call.ts";
import { guard } from "./interceptor.ts";
import { isSideroLink } from "./roles.ts";
import { routes } from "./routes.ts";

const messageLimit = 32 << 20;

/** Serves apid of any number of machines with one HTTP/2 server: a connection brings its machine and caller with it. */
export class ApidServer {
  readonly #calls = new WeakMap<object, Call>();
  readonly #server = createServer({ settings: { maxConcurrentStreams: 1000 } });

  constructor() {
    const handler = connectNodeAdapter({
      routes,
      interceptors: [guard],
      readMaxBytes: messageLimit,
      writeMaxBytes: messageLimit,
      connect: false,
      grpcWeb: false,
      contextValues: (request) => {
        const { session } = (request as unknown as Http2ServerRequest).stream;
        return createContextValues().set(callKey, session && this.#calls.get(session));
      },
    });
    this.#server.on("request", withAuthority(handler));
    this.#server.on("session", (session) => {
      const call = this.#pending;
      if (call) this.#calls.set(session, call);
    });
  }
  /** Set while a connection is handed to the HTTP/2 server: its session event comes before `emit` returns. */
  #pending: Call | undefined;

  /** Takes a connection to a machine: TLS, admission, then HTTP/2. */
  accept(boot: Boot, stream: Duplex, remoteAddress: string): void {
    const tls = boot.apidTls;
    if (!tls) {
      stream.on("error", () => {});
      stream.destroy();
      return;
    }
    const stop = () => socket.destroy();
    boot.signal.addEventListener("abort", stop, { once: true });
    const options = { secureContext: tls.context, ALPNProtocols: ["h2"], requestCert: tls.clientCAs !== undefined };
    const socket = acceptTls(stream, options, () => {
      const roles = admit(boot, socket, tls.clientCAs, remoteAddress);
      if (!roles || socket.destroyed) {
        socket.destroy();
        return;
      }
      this.#pending = { boot, roles, peer: remoteAddress };
      try {
        this.#server.emit("connection", socket);
      } finally {
        this.#pending = undefined;
      }
    });
    socket.once("close", () => boot.signal.removeEventListener("abort", stop));
  }
}

/** Roles of the caller, undefined when it may not come in. */
function admit(
  boot: Boot,
  socket: TLSSocket,
  clientCAs: readonly string[] | undefined,
  remoteAddress: string,
): ReadonlySet<string> | undefined {
  if (!clientCAs) return new Set([isSideroLink(parseIP(remoteAddress)) ? "os:admin" : "os:reader"]);
  const peer = socket.getPeerX509Certificate();
  const reason = peer
    ? rejectClient(new X509Certificate(peer.raw), clientCAs, boot.now())
    : "client didn't provide a certificate";
  if (!peer || reason) {
    boot.kernel.write(`[talos] apid: remote error: tls: ${reason}`, "user", "warning");
    return undefined;
  }
  return new Set(subjectValues(peer, "O"));
}
