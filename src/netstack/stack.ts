import { hash, randomBytes, randomInt } from "node:crypto";
import type { Clock, Timer } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { formatIP, parseIP } from "#lib/ip.ts";
import {
  ACK_DELAYED,
  ACK_NOW,
  Connection,
  type Host,
  type Limits,
  SYN_RECEIVED,
  SYN_SENT,
  TIME_WAIT,
} from "./connection.ts";
import { flush } from "./flush.ts";
import { echoReply, parseIcmp } from "./icmpv6.ts";
import { PROTOCOL_ICMPV6, PROTOCOL_TCP, parseIPv6, type Upper } from "./ipv6.ts";
import { abort, finish, open } from "./lifecycle.ts";
import { agree, receive, shrink, unreachable } from "./receive.ts";
import { ACK, buildSegment, FIN, parseSegment, RST, type Segment, SYN, since } from "./segment.ts";
import { TcpStream } from "./stream.ts";
import { Table } from "./table.ts";

export { TcpStream } from "./stream.ts";

const DELAYED_ACK = 40;
const FIRST_EPHEMERAL = 32_768;

const defaults: Limits = {
  connections: 65_536,
  backlog: 256,
  timeWait: 4_096,
  timeWaitFor: 60_000,
  receive: 4 << 20,
  send: 4 << 20,
  connect: 30_000,
  user: 180_000,
  linger: 60_000,
  keepAlive: 120_000,
};

/** What a stack runs with. */
export interface StackOptions {
  /** Its one IPv6 address. */
  readonly address: string;
  /** Largest packet it sends. Default 1280. */
  readonly mtu?: number;
  readonly clock: Clock;
  /** Sends an IPv6 packet, which is the receiver's to keep. No answer may come in before it returns: as on a wire, it takes at least a turn. */
  send(packet: Uint8Array): void;
  /** Bounds other than the defaults. */
  readonly limits?: Partial<Limits>;
}

interface Listener {
  readonly onStream: (stream: TcpStream) => void;
  /** Handshakes under way, the oldest first. */
  readonly half: Set<Connection>;
}

/**
 * A host with one IPv6 address that speaks TCP and answers echo requests (RFC 9293, 4443). Packets go in by `input` and out
 * by `send`; what is more to do happens on the next turn of the event loop, once for all packets of this one.
 */
export class Stack {
  readonly #host: Host;
  readonly #transmit: (packet: Uint8Array) => void;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #local: Uint8Array;
  readonly #secret = randomBytes(16);
  readonly #table = new Table();
  readonly #listeners = new Map<number, Listener>();
  readonly #timeWait = new Map<Connection, number>();
  #timeWaitTimer: Timer | undefined;
  readonly #delayed = new Set<Connection>();
  #delayTimer: Timer | undefined;
  #dirty: Connection[] = [];
  #closed = false;

  /** Throws `invalid_argument` when the address is none. */
  constructor({ address, mtu = 1280, clock, send, limits }: StackOptions) {
    this.#local = parse6(address);
    this.#clock = clock;
    this.#transmit = send;
    this.#limits = { ...defaults, ...limits };
    this.#host = {
      clock,
      mtu,
      limits: this.#limits,
      local: this.#local,
      localAddress: formatIP(this.#local),
      transmit: send,
      dirty: (c) => this.#wake(c),
      delayAck: (c) => this.#delayAck(c),
      enterTimeWait: (c) => this.#enterTimeWait(c),
      established: (c) => this.#established(c),
      closed: (c) => this.#forgotten(c),
    };
  }

  /** Connections in all states: for tests and metrics. */
  get size(): number {
    return this.#table.size;
  }

  /** Takes a packet from outside: any bytes. Keeps none of them. */
  input(packet: Uint8Array): void {
    if (this.#closed) return;
    const upper = parseIPv6(packet);
    if (!upper || !this.#forUs(packet)) return;
    if (upper.protocol === PROTOCOL_TCP) {
      const segment = parseSegment(packet, upper);
      if (segment) this.#segment(segment);
    } else if (upper.protocol === PROTOCOL_ICMPV6) this.#icmp(packet, upper);
  }

  /**
   * Accepts connections to `port`. Throws `already_exists` when the port is taken. Closing it lets go of the port and of
   * handshakes under way; streams go on.
   */
  listen(port: number, onStream: (stream: TcpStream) => void): { close(): void } {
    this.#mustBeOpen();
    if (this.#listeners.has(port)) throw new IchorError("already_exists", `port ${port} is taken`);
    const listener: Listener = { onStream, half: new Set() };
    this.#listeners.set(port, listener);
    return {
      close: () => {
        if (this.#listeners.get(port) !== listener) return;
        this.#listeners.delete(port);
        for (const c of listener.half) abort(c, undefined, { reset: true });
      },
    };
  }

  /** Opens a connection. Throws `unavailable` when it is refused or nobody answers in 30 s; the signal's reason when that aborts. */
  async connect(address: string, port: number, signal?: AbortSignal): Promise<TcpStream> {
    this.#mustBeOpen();
    signal?.throwIfAborted();
    const remote = parse6(address);
    if (this.#table.size - this.#timeWait.size >= this.#limits.connections)
      throw new IchorError("resource_exhausted", "too many connections");
    const localPort = this.#freePort(remote, port);
    const c = this.#make(remote, localPort, port, true);
    c.state = SYN_SENT;
    return new Promise((resolve, reject) => {
      const stop = () => abort(c, reasonOf(signal), { reset: true });
      signal?.addEventListener("abort", stop, { once: true });
      c.settle = (error) => {
        signal?.removeEventListener("abort", stop);
        if (c.stream) resolve(c.stream);
        else reject(error);
      };
      const now = this.#clock.monotonic();
      open(c, now);
      this.#wake(c);
    });
  }

  /** Drops all connections with that remote without a word to it. Their streams fail with `unavailable`. */
  forget(address: string): void {
    const error = new IchorError("unavailable", `connections with ${address} were dropped`);
    for (const c of this.#table.of(parse6(address))) abort(c, error, { reset: false });
  }

  /** Resets all connections and sends nothing more. */
  close(): void {
    if (this.#closed) return;
    this.#listeners.clear();
    const error = new IchorError("unavailable", "the network was closed");
    for (const c of this.#table.all()) abort(c, error, { reset: true });
    this.#closed = true;
    this.#timeWaitTimer?.cancel();
    this.#delayTimer?.cancel();
    this.#delayed.clear();
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new IchorError("unavailable", "the network was closed");
  }

  #forUs(packet: Uint8Array): boolean {
    for (let i = 0; i < 16; i++) if (packet[24 + i] !== this.#local[i]) return false;
    // Nobody sends from a multicast address, and nobody is us.
    if (packet[8] === 0xff) return false;
    for (let i = 15; i >= 0; i--) if (packet[8 + i] !== this.#local[i]) return true;
    return false;
  }

  #segment(s: Segment): void {
    const c = this.#table.find(s.packet, 8, s.targetPort, s.sourcePort);
    const now = this.#clock.monotonic();
    if (!c) {
      this.#stranger(s, now);
      return;
    }
    if (c.state === TIME_WAIT && (s.flags & (SYN | ACK | RST)) === SYN && since(s.seq, c.receiveNext) > 0) {
      // The peer uses its port again (RFC 6191).
      finish(c);
      this.#stranger(s, now);
      return;
    }
    receive(c, s, now, (segment) => this.#refuse(segment));
  }

  /** A segment without a connection: perhaps the begin of one. */
  #stranger(s: Segment, now: number): void {
    if (s.flags & RST) return;
    const listener = this.#listeners.get(s.targetPort);
    if (!listener || s.sourcePort === 0 || (s.flags & (SYN | ACK | FIN)) !== SYN) {
      this.#refuse(s);
      return;
    }
    if (this.#table.size - this.#timeWait.size >= this.#limits.connections) return;
    if (listener.half.size >= this.#limits.backlog) {
      // In a flood the oldest waits in vain; an honest peer answers within a round trip.
      for (const oldest of listener.half) {
        finish(oldest);
        break;
      }
    }
    const c = this.#make(s.packet.slice(8, 24), s.targetPort, s.sourcePort, false);
    listener.half.add(c);
    c.state = SYN_RECEIVED;
    agree(c, s, now);
    open(c, now);
    this.#wake(c);
  }

  /** Answers a segment that belongs nowhere with RST (RFC 9293 3.10.7.1). */
  #refuse(s: Segment): void {
    if (s.flags & RST) return;
    const path = {
      local: s.packet.subarray(24, 40),
      remote: s.packet.subarray(8, 24),
      localPort: s.targetPort,
      remotePort: s.sourcePort,
    };
    const length = s.end - s.start + (s.flags & SYN ? 1 : 0) + (s.flags & FIN ? 1 : 0);
    const fields =
      s.flags & ACK
        ? { seq: s.ack, ack: 0, flags: RST, window: 0 }
        : { seq: 0, ack: (s.seq + length) | 0, flags: RST | ACK, window: 0 };
    this.#transmit(buildSegment(path, fields, []));
  }

  #icmp(packet: Uint8Array, upper: Upper): void {
    const message = parseIcmp(packet, upper);
    if (!message) return;
    if (message.kind === "echo") {
      this.#transmit(echoReply(packet, upper));
      return;
    }
    const c = this.#table.find(message.remote, 0, message.ports >>> 16, message.ports & 0xffff);
    if (!c || since(message.sequence, c.sendUna) < 0 || since(message.sequence, c.sendNext) > 0) return;
    if (message.kind === "too-big") shrink(c, message.mtu);
    else unreachable(c);
  }

  #make(remote: Uint8Array, localPort: number, remotePort: number, active: boolean): Connection {
    const now = this.#clock.monotonic();
    const ports = [localPort >> 8, localPort, remotePort >> 8, remotePort];
    // RFC 6528: grows with time for the same pair of ends, and tells nothing to others.
    const digest = hash("sha256", Buffer.concat([this.#secret, remote, Uint8Array.from(ports)]), "buffer");
    const c = new Connection(
      this.#host,
      { remote, remoteAddress: formatIP(remote), localPort, remotePort, active },
      {
        iss: (digest.readInt32BE(0) + Math.floor(now * 250)) | 0,
        tsOffset: digest.readInt32BE(4),
        mss: this.#host.mtu - 60,
        now,
      },
    );
    this.#table.add(c);
    return c;
  }

  #freePort(remote: Uint8Array, port: number): number {
    const count = 65_536 - FIRST_EPHEMERAL;
    const first = randomInt(count);
    for (let i = 0; i < count; i++) {
      const candidate = FIRST_EPHEMERAL + ((first + i) % count);
      if (!this.#table.find(remote, 0, candidate, port) && !this.#listeners.has(candidate)) return candidate;
    }
    throw new IchorError("resource_exhausted", "no port is free");
  }

  #established(c: Connection): void {
    c.stream = new TcpStream(c);
    if (c.active) {
      c.settle?.();
      c.settle = undefined;
      return;
    }
    const listener = this.#listeners.get(c.localPort);
    listener?.half.delete(c);
    const { stream } = c;
    // Whoever listens may throw: not into the arms of whoever handed in the packet.
    setImmediate(() => {
      if (listener) listener.onStream(stream);
      else stream.destroy();
    });
  }

  #forgotten(c: Connection): void {
    this.#table.delete(c);
    if (this.#timeWait.delete(c) && this.#timeWait.size === 0) {
      this.#timeWaitTimer?.cancel();
      this.#timeWaitTimer = undefined;
    }
    this.#delayed.delete(c);
    if (!c.active) this.#listeners.get(c.localPort)?.half.delete(c);
    // What arrived is still to be read.
    if (!c.detached) this.#wake(c);
  }

  #wake(c: Connection): void {
    if (c.queued) return;
    c.queued = true;
    this.#dirty.push(c);
    if (this.#dirty.length > 1) return;
    setImmediate(() => this.#run());
  }

  #run(): void {
    const batch = this.#dirty;
    this.#dirty = [];
    let done = 0;
    try {
      while (done < batch.length) {
        const c = batch[done++]!;
        c.queued = false;
        flush(c);
      }
    } finally {
      // A reader threw: the others are not to suffer for it.
      if (done < batch.length) {
        this.#dirty = [...batch.slice(done), ...this.#dirty];
        setImmediate(() => this.#run());
      }
    }
  }

  #delayAck(c: Connection): void {
    c.ackDueAt = this.#clock.monotonic() + DELAYED_ACK;
    this.#delayed.delete(c);
    this.#delayed.add(c);
    this.#delayTimer ??= this.#clock.after(DELAYED_ACK, () => this.#ackDelayed());
  }

  /** One timer for all: they wait equally long, so the set is in order of time. */
  #ackDelayed(): void {
    const now = this.#clock.monotonic();
    this.#delayTimer = undefined;
    for (const c of this.#delayed) {
      if (c.ackDueAt > now) {
        this.#delayTimer = this.#clock.after(c.ackDueAt - now, () => this.#ackDelayed());
        return;
      }
      this.#delayed.delete(c);
      if (c.ack !== ACK_DELAYED) continue;
      c.ack = ACK_NOW;
      this.#wake(c);
    }
  }

  #enterTimeWait(c: Connection): void {
    this.#timeWait.delete(c);
    if (this.#timeWait.size >= this.#limits.timeWait) {
      for (const oldest of this.#timeWait.keys()) {
        finish(oldest);
        break;
      }
    }
    this.#timeWait.set(c, this.#clock.monotonic() + this.#limits.timeWaitFor);
    this.#timeWaitTimer ??= this.#clock.after(this.#limits.timeWaitFor, () => this.#endTimeWait());
  }

  #endTimeWait(): void {
    const now = this.#clock.monotonic();
    this.#timeWaitTimer = undefined;
    for (const [c, at] of this.#timeWait) {
      if (at > now) {
        this.#timeWaitTimer = this.#clock.after(at - now, () => this.#endTimeWait());
        return;
      }
      finish(c);
    }
  }
}

function parse6(address: string): Uint8Array {
  const bytes = parseIP(address);
  if (bytes.length !== 16) throw new IchorError("invalid_argument", `"${address}" is not an IPv6 address`);
  return bytes;
}

function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new IchorError("canceled", "the connection was not wanted any more");
}
