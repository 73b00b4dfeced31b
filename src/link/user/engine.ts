import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import type { Duplex } from "node:stream";
import type { Timer } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { formatHostPort, parseIP } from "#lib/ip.ts";
import type { Endpoint, EngineOptions, Incoming, LinkEngine, Peer, PeerEvent } from "#link/engine.ts";
import { Stack } from "#netstack/stack.ts";
import { type PeerState, WireGuard } from "#wireguard/device.ts";

/** No handshake for this long: the peer is down (180 + 5 + 90 s). */
export const silence = 275_000;
/** Both sides keep NAT open. */
const keepalive = 25;

interface Known {
  readonly peer: Peer;
  readonly state: PeerState<Endpoint>;
  up: boolean;
  timer?: Timer;
}

/** WireGuard and TCP/IPv6 in the process: needs no privilege. */
export class UserEngine implements LinkEngine {
  readonly address: string;
  readonly udp: { host: string; port: number };
  readonly #options: EngineOptions;
  readonly #socket: Socket;
  readonly #device: WireGuard<Endpoint>;
  readonly #stack: Stack;
  readonly #own: Uint8Array;
  readonly #byAddress = new Map<string, Known>();
  readonly #tunnels = new Map<string, (datagram: Uint8Array) => void>();
  readonly #listeners = new Set<(event: PeerEvent) => void>();

  /** Binds the UDP socket. Throws `already_exists` when the port is taken. */
  static async start(options: EngineOptions): Promise<UserEngine> {
    const socket = createSocket({
      type: isIPv6(options.bind.host) ? "udp6" : "udp4",
      recvBufferSize: 4 << 20,
      sendBufferSize: 4 << 20,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("error", (cause) => {
        const where = formatHostPort(options.bind.host, options.bind.port);
        reject(
          new IchorError(
            "already_exists",
            `cannot listen for WireGuard on udp ${where}: ${cause.message}; choose another with --wireguard`,
            { cause },
          ),
        );
      });
      socket.bind(options.bind.port, options.bind.host, resolve);
    });
    return new UserEngine(options, socket);
  }

  private constructor(options: EngineOptions, socket: Socket) {
    this.#options = options;
    this.#socket = socket;
    this.address = options.address;
    this.#own = parseIP(options.address);
    const bound = socket.address();
    this.udp = { host: bound.address, port: bound.port };
    this.#stack = new Stack({
      address: options.address,
      clock: options.clock,
      send: (packet) => void this.#device.output(packet),
    });
    this.#device = new WireGuard<Endpoint>({
      privateKey: options.privateKey,
      clock: options.clock,
      send: (datagram, endpoint) => this.#send(datagram, endpoint),
      receive: (packet) => {
        // Machines reach the plane and nothing else: not one another.
        if (Buffer.compare(packet.subarray(24, 40), this.#own) === 0) this.#stack.input(packet);
      },
      onHandshake: (state) => this.#handshake(state),
      onEndpoint: (state) => {
        const known = state.tag as Known | undefined;
        if (known?.up && state.endpoint)
          this.#tell({ kind: "roamed", address: known.peer.address, endpoint: state.endpoint });
      },
      endpointKey: endpointText,
    });
    socket.on("message", (datagram, from) =>
      this.#device.input(datagram, { kind: "udp", host: from.address, port: from.port }),
    );
    socket.on("error", (error) => options.log.warn({ error: error.message }, "udp socket failed"));
  }

  get publicKey(): Uint8Array {
    return this.#device.publicKey;
  }

  async setPeer(peer: Peer): Promise<void> {
    const before = this.#byAddress.get(peer.address);
    if (before) {
      if (Buffer.compare(before.peer.publicKey, peer.publicKey) === 0) return;
      // The machine booted: connections with its former life are dead.
      this.#forget(before);
    }
    // The same key at another address: the peer moves.
    await this.removePeer(peer.publicKey);
    const known = { peer, up: false } as { -readonly [K in keyof Known]: Known[K] };
    known.state = this.#device.addPeer({
      publicKey: peer.publicKey,
      allowedIPs: [peer.address],
      keepalive,
      tag: known,
      ...(peer.endpoint ? { endpoint: peer.endpoint } : {}),
    });
    this.#byAddress.set(peer.address, known);
  }

  async removePeer(publicKey: Uint8Array): Promise<void> {
    const known = this.#device.peer(publicKey)?.tag as Known | undefined;
    if (known) this.#forget(known);
  }

  async listen(port: number, onConnection: (incoming: Incoming) => void): Promise<{ close(): Promise<void> }> {
    const listener = this.#stack.listen(port, (stream) =>
      onConnection({ stream, remoteAddress: stream.remoteAddress }),
    );
    return { close: async () => listener.close() };
  }

  async connect(address: string, port: number, signal?: AbortSignal): Promise<Duplex> {
    if (!this.#byAddress.has(address)) throw new IchorError("not_found", `no machine has the address ${address}`);
    return this.#stack.connect(address, port, signal);
  }

  async *events(signal: AbortSignal): AsyncGenerator<PeerEvent> {
    // Bounded by the peers: a newer event of a peer replaces the one that nobody has read.
    const waiting = new Map<string, PeerEvent>();
    let wake = () => {};
    const listener = (event: PeerEvent) => {
      waiting.delete(event.address);
      waiting.set(event.address, event);
      wake();
    };
    this.#listeners.add(listener);
    const stop = () => wake();
    signal.addEventListener("abort", stop, { once: true });
    try {
      while (!signal.aborted) {
        for (const [address, event] of waiting) {
          waiting.delete(address);
          yield event;
        }
        if (waiting.size === 0 && !signal.aborted) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener("abort", stop);
    }
  }

  attachTunnel(
    id: string,
    send: (datagram: Uint8Array) => void,
  ): { receive(datagram: Uint8Array): void; detach(): void } {
    this.#tunnels.set(id, send);
    const endpoint: Endpoint = { kind: "tunnel", id };
    return {
      receive: (datagram) => this.#device.input(datagram, endpoint),
      detach: () => {
        if (this.#tunnels.get(id) === send) this.#tunnels.delete(id);
      },
    };
  }

  async close(): Promise<void> {
    for (const known of this.#byAddress.values()) known.timer?.cancel();
    this.#stack.close();
    this.#device.close();
    // Node resolves even a bare address on the next turn: without it the last resets would be dropped with the socket.
    await new Promise<void>((resolve) => setImmediate(resolve));
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }

  #send(datagram: Uint8Array, endpoint: Endpoint): void {
    if (endpoint.kind === "tunnel") this.#tunnels.get(endpoint.id)?.(datagram);
    else this.#socket.send(datagram, endpoint.port, endpoint.host, () => {});
  }

  #forget(known: Known): void {
    known.timer?.cancel();
    this.#byAddress.delete(known.peer.address);
    this.#device.removePeer(known.peer.publicKey);
    this.#stack.forget(known.peer.address);
  }

  #handshake(state: PeerState<Endpoint>): void {
    const known = state.tag as Known | undefined;
    if (!known || !state.endpoint) return;
    if (!known.up) {
      known.up = true;
      this.#tell({ kind: "up", address: known.peer.address, endpoint: state.endpoint });
    }
    // One timer for each peer that is up, moved only when it fires.
    known.timer ??= this.#options.clock.after(silence, () => this.#checkSilence(known));
  }

  #checkSilence(known: Known): void {
    const quiet = this.#options.clock.now() - known.state.lastHandshake;
    delete known.timer;
    if (quiet < silence) {
      known.timer = this.#options.clock.after(silence - quiet, () => this.#checkSilence(known));
      return;
    }
    known.up = false;
    this.#tell({ kind: "down", address: known.peer.address });
  }

  #tell(event: PeerEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** Text of an endpoint: `host:port`, or `tunnel:ID`. */
export function endpointText(endpoint: Endpoint): string {
  return endpoint.kind === "udp" ? formatHostPort(endpoint.host, endpoint.port) : `tunnel:${endpoint.id}`;
}
