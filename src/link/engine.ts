import type { Duplex } from "node:stream";
import type { Clock } from "#lib/clock.ts";
import type { Logger } from "#lib/log.ts";

/** Where packets of a peer go and come from: a UDP endpoint, or a gRPC tunnel named by its virtual address. */
export type Endpoint =
  | { readonly kind: "udp"; readonly host: string; readonly port: number }
  | { readonly kind: "tunnel"; readonly id: string };

/** A machine as the link knows it. */
export interface Peer {
  /** Curve25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Its SideroLink address, canonical text. */
  readonly address: string;
  /** Last known endpoint: lets the plane speak first after a restart. */
  readonly endpoint?: Endpoint;
}

/** What the link tells of a peer. */
export type PeerEvent =
  /** First handshake, or the first after a silence of more than 275 s. */
  | { readonly kind: "up"; readonly address: string; readonly endpoint: Endpoint }
  /** No handshake for 275 s. */
  | { readonly kind: "down"; readonly address: string }
  /** It sends from somewhere else. */
  | { readonly kind: "roamed"; readonly address: string; readonly endpoint: Endpoint };

/** How an engine is started. */
export interface EngineOptions {
  /** The plane's own WireGuard key, 32 bytes. */
  readonly privateKey: Uint8Array;
  /** The plane's SideroLink address. */
  readonly address: string;
  /** Where WireGuard listens; port 0 takes a free one. */
  readonly bind: { readonly host: string; readonly port: number };
  readonly clock: Clock;
  readonly log: Logger;
}

/** A connection that a machine opened to the plane. */
export interface Incoming {
  readonly stream: Duplex;
  /** The machine's SideroLink address, canonical text: the only identity inside the link. */
  readonly remoteAddress: string;
}

/**
 * Carries packets between the plane and its machines. `user` does it in the process, `kernel` by the kernel or wireguard-go.
 * Everything else needs only `listen` and `connect`.
 */
export interface LinkEngine {
  /** The plane's own WireGuard public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The plane's SideroLink address. */
  readonly address: string;
  /** The UDP address that it is bound to. */
  readonly udp: { readonly host: string; readonly port: number };
  /** Adds or replaces the peer with that public key; another peer with the same address is removed first. Idempotent. */
  setPeer(peer: Peer): Promise<void>;
  removePeer(publicKey: Uint8Array): Promise<void>;
  /** Accepts TCP connections to the plane's address on `port`. Throws `already_exists` when the port is taken. */
  listen(port: number, onConnection: (incoming: Incoming) => void): Promise<{ close(): Promise<void> }>;
  /** TCP to a machine. Throws `unavailable` when it does not answer, `not_found` when no peer has the address. */
  connect(address: string, port: number, signal?: AbortSignal): Promise<Duplex>;
  /** Peer events until the signal aborts. */
  events(signal: AbortSignal): AsyncIterable<PeerEvent>;
  /** A datagram that came through the gRPC tunnel `id`; answers for that peer go to `send`, given once by attachTunnel. */
  attachTunnel(
    id: string,
    send: (datagram: Uint8Array) => void,
  ): { receive(datagram: Uint8Array): void; detach(): void };
  close(): Promise<void>;
}
