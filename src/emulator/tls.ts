import type { Duplex } from "node:stream";
import { TLSSocket, type TLSSocketOptions } from "node:tls";
import { survivable } from "#lib/tls-over-stream.ts";

/** Answers a TLS handshake on any stream; `secure` gets the socket when it is done. Stream and socket end together. */
export function acceptTls(
  stream: Duplex,
  options: Pick<TLSSocketOptions, "secureContext" | "ALPNProtocols" | "requestCert">,
  secure: (socket: TLSSocket) => void,
): TLSSocket {
  const socket = survivable(
    new TLSSocket(stream as ConstructorParameters<typeof TLSSocket>[0], {
      ...options,
      isServer: true,
      rejectUnauthorized: false,
    }),
  );
  stream.on("error", () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.once("close", () => stream.destroy());
  socket.once("secure", () => {
    // Only tls.Server resets it; while it is set, an HTTP/2 session waits for a handshake that is over.
    Object.assign(socket, { secureConnecting: false });
    secure(socket);
  });
  return socket;
}
