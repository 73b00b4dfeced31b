import type { Clock } from "#lib/clock.ts";
import { ReceivedCookie } from "./cookie.ts";
import { LazyTimer } from "./lazy-timer.ts";
import { readUint32 } from "./messages.ts";
import {
  type Initiation,
  type LocalIdentity,
  makeInitiation,
  makeResponse,
  type Pending,
  type RemoteIdentity,
  readResponse,
} from "./noise.ts";
import { type MessageLimits, Session } from "./session.ts";
import { timestamp } from "./tai64n.ts";

/** Times of the protocol in milliseconds (whitepaper 6.1). */
export const times = {
  rekeyAfter: 120_000,
  rejectAfter: 180_000,
  rekeyAttempt: 90_000,
  rekeyTimeout: 5_000,
  keepalive: 10_000,
} as const;

/** Packets kept while a handshake is under way. */
const mostStaged = 128;
/** A peer may begin a handshake at most every 20 ms. */
const initiationInterval = 20;

/** What a peer needs of its device. */
export interface PeerHost<E> {
  readonly local: LocalIdentity;
  readonly clock: Clock;
  readonly mtu: number;
  readonly limits: MessageLimits;
  send(datagram: Uint8Array, endpoint: E): void;
  /** A free index that leads receivers of it to this peer. */
  claimIndex(peer: Peer<E>): number;
  freeIndex(index: number): void;
  onHandshake(peer: Peer<E>): void;
}

/** A peer as callers see it. */
export interface PeerState<E> {
  readonly publicKey: Uint8Array;
  readonly endpoint: E | undefined;
  /** Clock.now() of the last handshake; 0 = never. */
  readonly lastHandshake: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly tag: unknown;
}

/** The other end of a tunnel: its sessions, its handshake under way, its timers (whitepaper 5, 6). */
export class Peer<E> implements PeerState<E> {
  readonly remote: RemoteIdentity;
  readonly tag: unknown;
  endpoint: E | undefined;
  lastHandshake = 0;
  rxBytes = 0;
  txBytes = 0;
  readonly #host: PeerHost<E>;
  readonly #keepaliveMs: number;
  readonly cookie: ReceivedCookie;
  #pending: Pending | undefined;
  #previous: Session | undefined;
  #current: Session | undefined;
  /** Made as responder: used once the initiator has shown that it has the keys. */
  #next: Session | undefined;
  #staged: Uint8Array[] = [];
  #lastTimestamp: Uint8Array = new Uint8Array(12);
  #lastInitiationAt = Number.NEGATIVE_INFINITY;
  #attemptsSince = 0;
  #closed = false;

  readonly #retransmit: LazyTimer;
  readonly #passiveKeepalive: LazyTimer;
  readonly #persistentKeepalive: LazyTimer;
  /** Sent, but heard nothing: the session may be gone on the other side. */
  readonly #deaf: LazyTimer;
  readonly #forgetKeys: LazyTimer;

  constructor(host: PeerHost<E>, remote: RemoteIdentity, options: { endpoint?: E; keepalive?: number; tag?: unknown }) {
    this.#host = host;
    this.remote = remote;
    this.endpoint = options.endpoint;
    this.tag = options.tag;
    this.#keepaliveMs = (options.keepalive ?? 0) * 1000;
    const { clock } = host;
    this.cookie = new ReceivedCookie(clock, remote.publicKey);
    this.#retransmit = new LazyTimer(clock, () => this.#again());
    this.#passiveKeepalive = new LazyTimer(clock, () => this.#sendSealed(nothing));
    this.#persistentKeepalive = new LazyTimer(clock, () => this.#keepUp());
    this.#deaf = new LazyTimer(clock, () => this.initiate());
    this.#forgetKeys = new LazyTimer(clock, () => this.#forget());
    if (this.#keepaliveMs > 0) this.#persistentKeepalive.set(0);
  }

  get publicKey(): Uint8Array {
    return this.remote.publicKey;
  }

  /** Seals and sends a packet; keeps it while there is no session and begins a handshake. */
  output(packet: Uint8Array): void {
    const session = this.#usable();
    if (session) {
      this.#send(session, packet);
      return;
    }
    if (this.#staged.length >= mostStaged) this.#staged.shift();
    this.#staged.push(packet);
    this.initiate();
  }

  /** Begins a handshake unless one is under way or there is nowhere to send it. */
  initiate(): void {
    if (this.#closed || this.#retransmit.on || this.endpoint === undefined) return;
    this.#attemptsSince = this.#host.clock.monotonic();
    this.#sendInitiation();
  }

  /** A first message of this peer whose static key is already proven to be on the other side. */
  handleInitiation(initiation: Initiation, from: E): boolean {
    const { clock } = this.#host;
    const opened = initiation.openTimestamp(this.remote);
    if (!opened || Buffer.compare(opened.timestamp, this.#lastTimestamp) <= 0) return false;
    if (clock.monotonic() - this.#lastInitiationAt < initiationInterval) return false;
    this.#lastTimestamp = opened.timestamp;
    this.#lastInitiationAt = clock.monotonic();
    const index = this.#host.claimIndex(this);
    const made = makeResponse(this.remote, initiation, opened, index);
    if (!made) {
      this.#host.freeIndex(index);
      return false;
    }
    this.#drop(this.#next);
    this.#next = new Session(made.keys, index, initiation.sender, false, clock.monotonic(), this.#host.limits);
    this.endpoint = from;
    this.cookie.stamp(made.message);
    this.#transmit(made.message);
    return true;
  }

  /** The answer to our first message. */
  handleResponse(message: Uint8Array, from: E): boolean {
    const pending = this.#pending;
    if (!pending || pending.index !== readUint32(message, 8)) return false;
    const keys = readResponse(this.#host.local, this.remote, pending, message);
    if (!keys) return false;
    this.#pending = undefined;
    this.endpoint = from;
    const { clock, limits } = this.#host;
    this.#establish(new Session(keys, pending.index, readUint32(message, 4), true, clock.monotonic(), limits));
    // The responder sends nothing before it has heard from us.
    if (this.#staged.length > 0) this.#flush();
    else this.#sendSealed(nothing);
    return true;
  }

  /** A transport datagram for one of our sessions: the packet, empty for a keepalive; undefined when it is refused. */
  handleTransport(datagram: Uint8Array, from: E): Uint8Array | undefined {
    const index = readUint32(datagram, 4);
    const session = [this.#current, this.#next, this.#previous].find((one) => one?.localIndex === index);
    const now = this.#host.clock.monotonic();
    if (!session || now - session.born >= times.rejectAfter) return undefined;
    const packet = session.open(datagram);
    if (!packet) return undefined;
    this.rxBytes += datagram.length;
    this.endpoint = from;
    if (session === this.#next) {
      this.#next = undefined;
      this.#establish(session);
      this.#flush();
    }
    this.#deaf.clear();
    this.#touched();
    if (packet.length > 0) this.#passiveKeepalive.setOnce(times.keepalive);
    // Only who began a session renews it, so that the two do not collide.
    if (session.initiator && now - session.born >= times.rejectAfter - times.keepalive - times.rekeyTimeout)
      this.initiate();
    return packet;
  }

  close(): void {
    this.#closed = true;
    for (const timer of [
      this.#retransmit,
      this.#passiveKeepalive,
      this.#persistentKeepalive,
      this.#deaf,
      this.#forgetKeys,
    ])
      timer.close();
    if (this.#pending) this.#host.freeIndex(this.#pending.index);
    this.#forget();
  }

  #usable(): Session | undefined {
    const session = this.#current;
    if (!session || session.spent || this.#host.clock.monotonic() - session.born >= times.rejectAfter) return undefined;
    return session;
  }

  #sendSealed(packet: Uint8Array): void {
    const session = this.#usable();
    if (session) this.#send(session, packet);
  }

  #send(session: Session, packet: Uint8Array): void {
    if (this.endpoint === undefined) return;
    this.#passiveKeepalive.clear();
    this.#touched();
    if (packet.length > 0) this.#deaf.setOnce(times.keepalive + times.rekeyTimeout);
    this.#transmit(session.seal(packet, this.#host.mtu));
    const old = session.initiator && this.#host.clock.monotonic() - session.born >= times.rekeyAfter;
    if (old || session.wantsRekey) this.initiate();
  }

  #transmit(datagram: Uint8Array): void {
    if (this.endpoint === undefined) return;
    this.txBytes += datagram.length;
    this.#host.send(datagram, this.endpoint);
  }

  #flush(): void {
    const staged = this.#staged;
    this.#staged = [];
    for (const packet of staged) this.output(packet);
  }

  #sendInitiation(): void {
    const { clock, local } = this.#host;
    if (this.#pending) this.#host.freeIndex(this.#pending.index);
    const index = this.#host.claimIndex(this);
    const made = makeInitiation(local, this.remote, index, timestamp(clock.now()));
    if (!made) {
      this.#host.freeIndex(index);
      return;
    }
    this.#pending = made.pending;
    this.cookie.stamp(made.message);
    this.#touched();
    // Before sending: over a pipe in memory the answer comes at once. Jitter keeps two ends that began together apart.
    this.#retransmit.set(times.rekeyTimeout + Math.random() * 333);
    this.#transmit(made.message);
  }

  #again(): void {
    if (this.#host.clock.monotonic() - this.#attemptsSince < times.rekeyAttempt) {
      this.#sendInitiation();
      return;
    }
    // Given up until somebody wants to send again.
    this.#staged = [];
    if (this.#pending) this.#host.freeIndex(this.#pending.index);
    this.#pending = undefined;
    if (this.#keepaliveMs > 0) this.#persistentKeepalive.set(this.#keepaliveMs);
  }

  #establish(session: Session): void {
    this.#drop(this.#previous);
    this.#previous = this.#current;
    this.#current = session;
    this.#retransmit.clear();
    this.#deaf.clear();
    this.#forgetKeys.set(3 * times.rejectAfter);
    this.lastHandshake = this.#host.clock.now();
    this.#touched();
    this.#host.onHandshake(this);
  }

  #forget(): void {
    for (const session of [this.#previous, this.#current, this.#next]) this.#drop(session);
    this.#previous = undefined;
    this.#current = undefined;
    this.#next = undefined;
  }

  #drop(session: Session | undefined): void {
    if (session) this.#host.freeIndex(session.localIndex);
  }

  #keepUp(): void {
    if (this.#usable()) this.#sendSealed(nothing);
    else this.initiate();
    this.#touched();
  }

  #touched(): void {
    if (this.#keepaliveMs > 0) this.#persistentKeepalive.set(this.#keepaliveMs);
  }
}

const nothing = new Uint8Array();
