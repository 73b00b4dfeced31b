import { createSocket, type Socket } from "node:dgram";

/**
 * The UDP socket on loopback that stands for one machine behind a gRPC tunnel: to the interface, its address is where that machine is.
 */
export class Relay {
  readonly #socket: Socket;
  readonly #port: number;
  #closed = false;
  /** Resolves with its own port; undefined when it was closed before. */
  readonly ready: Promise<number | undefined>;

  /** `port` is that of the interface. What the interface sends goes to `send`, and may be kept. */
  constructor(port: number, send: (datagram: Uint8Array) => void, onError: (error: Error) => void) {
    this.#port = port;
    this.#socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20, sendBufferSize: 1 << 20 });
    this.#socket.on("message", (datagram, from) => {
      if (from.port === port) send(datagram);
    });
    this.ready = new Promise((resolve) => {
      this.#socket.once("listening", () => resolve(this.#closed ? undefined : this.#socket.address().port));
      this.#socket.once("close", () => resolve(undefined));
      this.#socket.on("error", (error) => {
        onError(error);
        resolve(undefined);
      });
    });
    this.#socket.bind(0, "127.0.0.1");
  }

  /** A datagram of the machine; kept back until the socket is bound. */
  receive(datagram: Uint8Array): void {
    if (this.#closed) return;
    this.#socket.send(datagram, this.#port, "127.0.0.1", () => {});
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
  }
}
