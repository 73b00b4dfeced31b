import { setImmediate as turn } from "node:timers/promises";
import { ManualClock } from "#lib/clock.ts";
import type { Limits } from "./connection.ts";
import { parseIPv6 } from "./ipv6.ts";
import { ACK, buildSegment, parseSegment, type Segment } from "./segment.ts";
import { Stack } from "./stack.ts";

/** What a network does to packets. Chances from 0 to 1, delays in milliseconds. */
export interface Weather {
  loss: number;
  duplicate: number;
  delay: number;
  /** Each packet takes up to this much longer than `delay`: they overtake one another. */
  jitter: number;
  seed: number;
}

/** Mulberry32: small, repeatable. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Two stacks at fd00::a and fd00::b, with a network between them that can be watched, cut and spoiled. For tests. */
export class Pair {
  readonly clock = new ManualClock();
  readonly a: Stack;
  readonly b: Stack;
  /** Packets that were handed to the network. */
  sent = 0;
  /** Sees each packet first; false drops it. */
  filter: (packet: Uint8Array, from: "a" | "b") => boolean = () => true;
  #stopped = false;

  constructor(options: { weather?: Partial<Weather>; limits?: Partial<Limits>; mtu?: number } = {}) {
    const { loss = 0, duplicate = 0, delay = 1, jitter = 0, seed = 1 } = options.weather ?? {};
    const chance = random(seed);
    const make = (name: "a" | "b"): Stack =>
      new Stack({
        address: `fd00::${name}`,
        clock: this.clock,
        ...(options.mtu ? { mtu: options.mtu } : {}),
        ...(options.limits ? { limits: options.limits } : {}),
        send: (packet) => {
          this.sent++;
          if (!this.filter(packet, name) || this.#stopped) return;
          const copies = chance() < loss ? 0 : chance() < duplicate ? 2 : 1;
          for (let i = 0; i < copies; i++)
            this.clock.after(delay + jitter * chance(), () => (name === "a" ? this.b : this.a).input(packet));
        },
      });
    this.a = make("a");
    this.b = make("b");
  }

  /** Lets time go by, at most `most` ms of it, until `done`. Steps are long while nothing happens. */
  async until(done: () => boolean, most = 600_000): Promise<void> {
    const end = this.clock.monotonic() + most;
    for (let step = 1; ; ) {
      const before = this.sent;
      // Streams need several turns to hand on what they got.
      for (let i = 0; i < 3; i++) await turn();
      if (done()) return;
      if (this.clock.monotonic() >= end) throw new Error(`it did not happen within ${most} ms`);
      step = this.sent === before ? Math.min(step * 1.5, 50) : 1;
      this.clock.advance(Math.min(step, end - this.clock.monotonic()));
    }
  }

  /** Lets `ms` go by. */
  async pass(ms: number): Promise<void> {
    const end = this.clock.monotonic() + ms;
    await this.until(() => this.clock.monotonic() >= end, ms + 1);
  }

  /** From now on nothing gets through. */
  cut(): void {
    this.#stopped = true;
  }

  close(): void {
    this.a.close();
    this.b.close();
  }
}

/** A stack at fd00::a, and a peer at fd00::b whose every segment the test writes by hand. */
export class Raw {
  readonly clock = new ManualClock();
  readonly stack: Stack;
  /** What the stack sent and nobody took yet. */
  readonly out: Segment[] = [];
  /** Takes the packets instead. */
  tap: ((packet: Uint8Array) => void) | undefined;
  readonly #path = { local: address(0xb), remote: address(0xa), localPort: 4000, remotePort: 80 };

  constructor(limits: Partial<Limits> = {}) {
    this.stack = new Stack({
      address: "fd00::a",
      clock: this.clock,
      limits,
      send: (packet) => {
        if (this.tap) {
          this.tap(packet);
          return;
        }
        const upper = parseIPv6(packet);
        const segment = upper && parseSegment(packet, upper);
        if (!segment) throw new Error("the stack sent what is no segment");
        this.out.push(segment);
      },
    });
  }

  send(
    fields: { seq: number; ack?: number; flags?: number; window?: number; data?: string; options?: number[] },
    ports: { localPort?: number; remotePort?: number } = {},
  ): void {
    const { seq, ack = 0, flags = ACK, window = 65_535, data = "", options = [] } = fields;
    const bytes = Buffer.from(data);
    this.stack.input(
      buildSegment({ ...this.#path, ...ports }, { seq, ack, flags, window }, options, bytes.length, (packet, at) =>
        packet.set(bytes, at),
      ),
    );
  }

  /** What the stack sent up to now, after the turns that it takes to. */
  async take(): Promise<Segment[]> {
    for (let i = 0; i < 4; i++) await turn();
    return this.out.splice(0);
  }
}

function address(last: number): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  bytes[15] = last;
  return bytes;
}

/** Text of the data of a segment. */
export function dataOf(segment: Segment): string {
  return Buffer.from(segment.packet.subarray(segment.start, segment.end)).toString();
}
