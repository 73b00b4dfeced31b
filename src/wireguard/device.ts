import { randomBytes } from "node:crypto";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { parseIP } from "#lib/ip.ts";
import { CookieJar } from "./cookie.ts";
import { isUsable } from "./keys.ts";
import {
  cookieLength,
  initiationLength,
  messageType,
  readUint32,
  responseLength,
  tagLength,
  transportHeader,
} from "./messages.ts";
import { hasMac1, type LocalIdentity, localIdentity, readInitiation, remoteIdentity } from "./noise.ts";
import { Peer, type PeerState } from "./peer.ts";
import { type MessageLimits, messageLimits } from "./session.ts";

export { generatePrivateKey, publicKeyOf } from "./keys.ts";
export type { PeerState } from "./peer.ts";

/** What a device runs with. `E` is whatever names the far end of a datagram. */
export interface WireGuardOptions<E> {
  /** 32 bytes. */
  readonly privateKey: Uint8Array;
  readonly clock: Clock;
  /** Largest inner packet: padding does not go beyond it. Default 1280. */
  readonly mtu?: number;
  /** How many messages a session may carry. Default 2^52, renewed after 2^51. */
  readonly limits?: MessageLimits;
  /** Sends a datagram. */
  send(datagram: Uint8Array, endpoint: E): void;
  /** An inner packet whose source address is the peer's. */
  receive(packet: Uint8Array, peer: PeerState<E>): void;
  /** A session was made. */
  onHandshake?(peer: PeerState<E>): void;
  /** The peer sends from another endpoint than before. */
  onEndpoint?(peer: PeerState<E>): void;
  /** Text of an endpoint: equal for equal endpoints, and what cookies are bound to. */
  endpointKey?(endpoint: E): string;
}

/** A peer to add. */
export interface PeerOptions<E> {
  readonly publicKey: Uint8Array;
  readonly presharedKey?: Uint8Array;
  readonly endpoint?: E;
  /** Persistent keepalive in seconds; default off. */
  readonly keepalive?: number;
  /** Addresses behind the peer: bare, or with the full prefix length. */
  readonly allowedIPs: readonly string[];
  readonly tag?: unknown;
}

/**
 * A WireGuard interface. Finds peers in O(1): by receiver index, by public key, by address. Holds only the timers that peers in use
 * really need. Bytes from outside never make it throw.
 */
export class WireGuard<E> {
  readonly #options: WireGuardOptions<E>;
  readonly #local: LocalIdentity;
  readonly #cookies: CookieJar;
  readonly #byKey = new Map<string, Peer<E>>();
  readonly #byIndex = new Map<number, Peer<E>>();
  readonly #byAddress = new Map<string, Peer<E>>();
  readonly #addresses = new Map<Peer<E>, string[]>();

  constructor(options: WireGuardOptions<E>) {
    this.#options = options;
    this.#local = localIdentity(options.privateKey);
    this.#cookies = new CookieJar(options.clock, this.#local.publicKey);
  }

  get publicKey(): Uint8Array {
    return this.#local.publicKey;
  }

  /** Receiver indexes in use: at most four for each peer. */
  get indexes(): number {
    return this.#byIndex.size;
  }

  /** Adds a peer, replacing one with the same key. Throws `invalid_argument` for addresses and keys that are none; keys of low order too. */
  addPeer(options: PeerOptions<E>): PeerState<E> {
    const addresses = options.allowedIPs.map((text) => addressKey(parseIP(text.split("/")[0] ?? "")));
    const remote = isUsable(options.publicKey)
      ? remoteIdentity(this.#local, options.publicKey, options.presharedKey)
      : undefined;
    if (!remote) throw new IchorError("invalid_argument", "the peer's public key is not usable");
    this.removePeer(options.publicKey);
    const { clock, mtu = 1280, limits = messageLimits, send } = this.#options;
    const peer: Peer<E> = new Peer<E>(
      {
        local: this.#local,
        clock,
        mtu,
        limits,
        send: (datagram, endpoint) => send(datagram, endpoint),
        claimIndex: (owner) => this.#claimIndex(owner),
        freeIndex: (index) => this.#byIndex.delete(index),
        onHandshake: (established) => this.#options.onHandshake?.(established),
      },
      remote,
      options,
    );
    this.#byKey.set(keyText(options.publicKey), peer);
    for (const address of addresses) this.#byAddress.set(address, peer);
    this.#addresses.set(peer, addresses);
    return peer;
  }

  removePeer(publicKey: Uint8Array): void {
    const peer = this.#byKey.get(keyText(publicKey));
    if (!peer) return;
    peer.close();
    this.#byKey.delete(keyText(publicKey));
    for (const address of this.#addresses.get(peer) ?? [])
      if (this.#byAddress.get(address) === peer) this.#byAddress.delete(address);
    this.#addresses.delete(peer);
  }

  peer(publicKey: Uint8Array): PeerState<E> | undefined {
    return this.#byKey.get(keyText(publicKey));
  }

  peerByAddress(address: string): PeerState<E> | undefined {
    return this.#byAddress.get(addressKey(parseIP(address)));
  }

  /** Sends an inner packet to the peer of its destination address; false when there is none. */
  output(packet: Uint8Array): boolean {
    const destination = addressOf(packet, 24, 16);
    const peer = destination === undefined ? undefined : this.#byAddress.get(destination);
    peer?.output(packet);
    return peer !== undefined;
  }

  /** Takes a datagram from outside: any bytes. */
  input(datagram: Uint8Array, from: E): void {
    if (datagram.length < 4) return;
    switch (readUint32(datagram, 0)) {
      case messageType.transport:
        if (datagram.length >= transportHeader + tagLength) this.#transport(datagram, from);
        return;
      case messageType.initiation:
        if (datagram.length === initiationLength && this.#admits(datagram, from)) this.#initiation(datagram, from);
        return;
      case messageType.response:
        if (datagram.length === responseLength && this.#admits(datagram, from)) this.#response(datagram, from);
        return;
      case messageType.cookie:
        if (datagram.length === cookieLength) this.#byIndex.get(readUint32(datagram, 4))?.cookie.take(datagram);
    }
  }

  close(): void {
    for (const peer of this.#byKey.values()) peer.close();
    this.#byKey.clear();
    this.#byAddress.clear();
    this.#byIndex.clear();
    this.#addresses.clear();
  }

  /** Cheap checks before any curve: MAC1 always, under load proof of the source address. */
  #admits(message: Uint8Array, from: E): boolean {
    if (!hasMac1(this.#local, message)) return false;
    const source = this.#endpointKey(from);
    if (!this.#cookies.underLoad() || this.#cookies.hasMac2(message, source)) return true;
    this.#options.send(this.#cookies.reply(message, source), from);
    return false;
  }

  #initiation(message: Uint8Array, from: E): void {
    const initiation = readInitiation(this.#local, message);
    const peer = initiation && this.#byKey.get(keyText(initiation.staticKey));
    if (!peer) return;
    const before = peer.endpoint;
    if (peer.handleInitiation(initiation, from)) this.#noteEndpoint(peer, before, from);
  }

  #response(message: Uint8Array, from: E): void {
    const peer = this.#byIndex.get(readUint32(message, 8));
    if (!peer) return;
    const before = peer.endpoint;
    if (peer.handleResponse(message, from)) this.#noteEndpoint(peer, before, from);
  }

  #transport(datagram: Uint8Array, from: E): void {
    const peer = this.#byIndex.get(readUint32(datagram, 4));
    if (!peer) return;
    const before = peer.endpoint;
    const padded = peer.handleTransport(datagram, from);
    if (!padded) return;
    this.#noteEndpoint(peer, before, from);
    const length = packetLength(padded);
    if (length === 0 || length > padded.length) return;
    // A peer may only speak for its own addresses.
    const source = addressOf(padded, 8, 12);
    if (source === undefined || this.#byAddress.get(source) !== peer) return;
    this.#options.receive(padded.subarray(0, length), peer);
  }

  #noteEndpoint(peer: Peer<E>, before: E | undefined, now: E): void {
    if (before === now || !this.#options.onEndpoint) return;
    if (before !== undefined && this.#endpointKey(before) === this.#endpointKey(now)) return;
    this.#options.onEndpoint(peer);
  }

  #endpointKey(endpoint: E): string {
    return this.#options.endpointKey?.(endpoint) ?? JSON.stringify(endpoint);
  }

  #claimIndex(peer: Peer<E>): number {
    for (;;) {
      const index = randomBytes(4).readUInt32LE();
      if (this.#byIndex.has(index)) continue;
      this.#byIndex.set(index, peer);
      return index;
    }
  }
}

function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function addressKey(address: Uint8Array): string {
  return keyText(address);
}

/** Length that the IP header tells; 0 for what is no IP packet. */
function packetLength(packet: Uint8Array): number {
  const version = packet.length > 0 ? packet[0]! >> 4 : 0;
  if (version === 6 && packet.length >= 40) return 40 + ((packet[4]! << 8) | packet[5]!);
  if (version === 4 && packet.length >= 20) return (packet[2]! << 8) | packet[3]!;
  return 0;
}

/** Key of an address in the header, at its offset for IPv6 or IPv4. */
function addressOf(packet: Uint8Array, at6: number, at4: number): string | undefined {
  const version = packet.length > 0 ? packet[0]! >> 4 : 0;
  if (version === 6 && packet.length >= 40) return keyText(packet.subarray(at6, at6 + 16));
  if (version === 4 && packet.length >= 20) return keyText(packet.subarray(at4, at4 + 4));
  return undefined;
}
