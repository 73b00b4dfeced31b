import type { Clock, Timer } from "#lib/clock.ts";
import { Cubic } from "./congestion.ts";
import type { Reassembly } from "./reassembly.ts";
import { ReceiveBuffer } from "./receive-buffer.ts";
import { Rto } from "./rto.ts";
import { Scoreboard } from "./sack.ts";
import { since } from "./segment.ts";
import { SendBuffer } from "./send-buffer.ts";
import type { TcpStream } from "./stream.ts";

/** States of RFC 9293 3.3.2, ordered so that "at least established" is a comparison. LISTEN lives in the stack. */
export const CLOSED = 0;
export const SYN_SENT = 1;
export const SYN_RECEIVED = 2;
export const ESTABLISHED = 3;
export const FIN_WAIT_1 = 4;
export const FIN_WAIT_2 = 5;
export const CLOSE_WAIT = 6;
export const CLOSING = 7;
export const LAST_ACK = 8;
export const TIME_WAIT = 9;

/** How an owed acknowledgement is to be sent. */
export const ACK_NONE = 0;
export const ACK_DELAYED = 1;
export const ACK_NOW = 2;

/** What the sender is recovering from. */
export const RECOVER_NONE = 0;
export const RECOVER_FAST = 1;
export const RECOVER_TIMEOUT = 2;

/** Bounds of a stack; all have defaults. Times in milliseconds, sizes in bytes. */
export interface Limits {
  /** Connections in all states but TIME_WAIT. Default 65,536. */
  connections: number;
  /** Connections half open from outside, per listener; further SYNs are dropped. Default 256. */
  backlog: number;
  /** Connections in TIME_WAIT; the oldest goes first. Default 4,096. */
  timeWait: number;
  /** Twice the maximum segment lifetime. Default 60,000. */
  timeWaitFor: number;
  /** The receive window grows up to this while the reader keeps pace; starts at 64 KiB. Default 4 MiB. */
  receive: number;
  /** Written and unacknowledged bytes grow up to this with the congestion window. Default 4 MiB. */
  send: number;
  /** How long `connect` tries. Default 30,000. */
  connect: number;
  /** How long data may stay unacknowledged (user timeout, RFC 9293 3.9.1). Default 180,000. */
  user: number;
  /** How long a connection whose stream is gone may take to end. Default 60,000. */
  linger: number;
  /** After this long without a word from the peer it is probed, 15 s apart, five times. Default 120,000. */
  keepAlive: number;
}

/** What a connection needs of the stack it belongs to. */
export interface Host {
  readonly clock: Clock;
  readonly limits: Limits;
  readonly local: Uint8Array;
  /** Canonical text. */
  readonly localAddress: string;
  readonly mtu: number;
  /** Asks for a flush (`flush.ts`) on the next turn of the event loop. */
  dirty(connection: Connection): void;
  transmit(packet: Uint8Array): void;
  /** Asks for an acknowledgement in 40 ms at the latest. */
  delayAck(connection: Connection): void;
  enterTimeWait(connection: Connection): void;
  /** The connection is CLOSED and to be forgotten. */
  closed(connection: Connection): void;
  /** The handshake is complete: gives the connection its stream. */
  established(connection: Connection): void;
}

/** A write under way: the next byte to take is `chunks[index][at]`. */
export interface Waiting {
  readonly chunks: readonly Uint8Array[];
  index: number;
  at: number;
  readonly done: (error?: Error) => void;
}

const FIRST_WINDOW = 65_536;

/**
 * All that is known of one connection (the TCB of RFC 9293): data alone. `receive.ts` and `acknowledge.ts` change it on
 * what arrives, `transmit.ts` on what goes out, `lifecycle.ts` on what the user wants, `timers.ts` as time goes by. Sequence numbers are signed
 * 32-bit integers, times are milliseconds of the monotonic clock, 0 = not set.
 */
export class Connection {
  readonly host: Host;
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly remoteAddress: string;
  readonly localPort: number;
  readonly remotePort: number;
  /** Opened by `connect`, not by a listener. */
  readonly active: boolean;
  state = CLOSED;
  stream: TcpStream | undefined;
  /** Settles `connect`; called once. */
  settle: ((error?: Error) => void) | undefined;
  /** In the queue of the next flush. */
  queued = false;
  /** The stream was destroyed: what is left is to end the connection. */
  detached = false;

  // What was agreed.
  mss: number;
  sackOk = false;
  timestamps = false;
  scaled = false;
  sendScale = 0;
  receiveScale: number;
  readonly tsOffset: number;
  tsRecent = 0;
  tsRecentAt = 0;

  // Sending.
  readonly iss: number;
  sendUna: number;
  sendNext: number;
  sendWindow = 0;
  maxWindow = 0;
  /** SEG.SEQ and SEG.ACK of the last window update. */
  wl1 = 0;
  wl2 = 0;
  readonly out = new SendBuffer();
  noDelay = true;
  /** FIN is to follow the last byte; it has been sent. */
  finWanted = false;
  finSent = false;
  /** Part of a write that found no room, and what to call when it is done. */
  waiting: Waiting | undefined;
  lastSent = 0;

  // Loss.
  readonly congestion: Cubic;
  readonly rto = new Rto();
  readonly board = new Scoreboard();
  recovery = RECOVER_NONE;
  recover = 0;
  highRetransmit = 0;
  lostEdge = 0;
  retransmitNow = false;
  retransmittedAt = 0;
  /** The recovery may yet turn out to be for nothing: an echo from before `undoStamp` shows it. */
  undoable = false;
  undoStamp = 0;
  /** Segments by which a later one may overtake: 3, more where the path was seen to reorder. */
  reordering = 3;
  /** Duplicate acknowledgements in a row, and the bytes that they stand for without SACK. */
  duplicates = 0;
  duplicateBytes = 0;
  cwndLimited = false;
  /** Without timestamps: the sequence number being timed, and since when. */
  timedSeq = 0;
  timedAt = 0;

  // Receiving.
  irs = 0;
  receiveNext = 0;
  /** Right edge of the window as announced: it never moves back. */
  advertised = 0;
  lastAck = 0;
  receiveBuffer: number;
  ahead: Reassembly | undefined;
  /** Bytes in order that the stream has not seen yet. */
  readonly arrived = new ReceiveBuffer();
  /** Sequence number of a FIN that was seen, also ahead of a gap; it counts once all before it is there. */
  finAt = 0;
  finSeen = false;
  finReceived = false;
  endPushed = false;
  ack = ACK_NONE;
  ackDueAt = 0;
  /** Immediate acknowledgements owed to a peer without SACK, which counts them. */
  acksOwed = 0;
  unacked = 0;
  epochAt = 0;
  epochBytes = 0;
  challengesAt = 0;
  challenges = 0;

  // Time. One timer per connection, re-armed lazily: it may fire early and then only looks.
  timer: Timer | undefined;
  timerAt = 0;
  retransmitAt = 0;
  persisting = false;
  probes = 0;
  /** Since when nothing that we sent was acknowledged. */
  stuckSince = 0;
  lingerAt = 0;
  keepAliveAt = 0;
  keepAliveProbes = 0;
  lastHeard: number;

  constructor(
    host: Host,
    at: { remote: Uint8Array; remoteAddress: string; localPort: number; remotePort: number; active: boolean },
    numbers: { iss: number; tsOffset: number; mss: number; now: number },
  ) {
    this.host = host;
    this.local = host.local;
    this.remote = at.remote;
    this.remoteAddress = at.remoteAddress;
    this.localPort = at.localPort;
    this.remotePort = at.remotePort;
    this.active = at.active;
    this.iss = numbers.iss;
    this.tsOffset = numbers.tsOffset;
    this.sendUna = this.iss;
    this.sendNext = this.iss;
    this.mss = numbers.mss;
    this.congestion = new Cubic(numbers.mss);
    this.lastHeard = numbers.now;
    this.receiveBuffer = Math.min(FIRST_WINDOW, host.limits.receive);
    this.receiveScale = 0;
    while (this.receiveScale < 14 && host.limits.receive >> this.receiveScale > 0xffff) this.receiveScale++;
  }

  /** Sequence number after the last byte that was sent, without the FIN. */
  get dataSent(): number {
    return this.finSent && this.sendUna !== this.sendNext ? (this.sendNext - 1) | 0 : this.sendNext;
  }

  /** Bytes in the send buffer that were never sent. */
  get unsent(): number {
    return this.state < ESTABLISHED ? this.out.length : this.out.length - since(this.dataSent, this.sendUna);
  }

  /** Bytes that the user has yet to take. */
  get unread(): number {
    return this.arrived.length + (this.stream?.readableLength ?? 0);
  }

  /**
   * How much the send buffer may hold before writes wait: twice the congestion window keeps the pipe full. Whole bytes, though the
   * window grows by fractions: part of a byte taken in would move all that follow.
   */
  get sendLimit(): number {
    return Math.min(this.host.limits.send, Math.max(131_072, Math.floor(2 * this.congestion.cwnd)));
  }

  timestamp(now: number): number {
    return (Math.floor(now) + this.tsOffset) | 0;
  }
}
