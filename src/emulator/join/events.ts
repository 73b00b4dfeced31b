import { randomBytes } from "node:crypto";
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { grpcTo } from "#emulator/grpc.ts";
import type { Network } from "#emulator/network.ts";
import { EventSinkService } from "#gen/events/events_pb.ts";
import { abortable, sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { parseHostPort } from "#lib/ip.ts";

/** One event of a machine. */
export interface MachineEvent {
  /** xid text, sorts by time. */
  readonly id: string;
  readonly at: number;
  readonly data: Any;
  readonly actor: string;
}

const capacity = 1000;

/** The events of one boot: a ring of the last 1000, followed by any number of readers. */
export class EventRing {
  readonly #clock: Clock;
  readonly #ring: MachineEvent[] = [];
  readonly #listeners = new Set<() => void>();
  #first = 0;
  #acknowledged = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }
  /** Adds an event; `actor` is the id that an API call answered. */
  publish<D extends DescMessage>(schema: D, init: MessageInitShape<D>, actor = ""): void {
    const at = this.#clock.now();
    this.#ring.push({ id: xid(at), at, data: anyPack(schema, create(schema, init)), actor });
    if (this.#ring.length > capacity) {
      this.#ring.shift();
      this.#first++;
    }
    for (const listener of [...this.#listeners]) listener();
  }
  /** Position after the last event. */
  get end(): number {
    return this.#first + this.#ring.length;
  }
  /** Position of the oldest event that is kept. */
  get start(): number {
    return this.#first;
  }
  /** All that is kept. */
  all(): readonly MachineEvent[] {
    return this.#ring;
  }
  /** The event at a position; one that fell out gives the oldest kept. */
  at(position: number): { event: MachineEvent; next: number } | undefined {
    const index = Math.max(0, position - this.#first);
    const event = this.#ring[index];
    return event && { event, next: this.#first + index + 1 };
  }
  /** The sink has taken all before `position`. */
  acknowledge(position: number): void {
    this.#acknowledged = position;
    for (const listener of [...this.#listeners]) listener();
  }
  /** Resolves when there is an event at `position`. */
  wait(position: number, signal: AbortSignal): Promise<void> {
    return this.#until(() => this.end > position, signal);
  }
  /** Resolves when the sink has taken all that there is. */
  drained(signal: AbortSignal): Promise<void> {
    return this.#until(() => this.#acknowledged >= this.end, signal);
  }

  async #until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    while (!holds()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#listeners.add(resolve);
      try {
        await abortable(promise, signal);
      } finally {
        this.#listeners.delete(resolve);
      }
    }
  }
}

/** Sends events to a sink, one call at a time, until the signal aborts; after an error it goes on from the last acknowledged one. */
export async function sendEvents(options: {
  readonly ring: EventRing;
  readonly endpoint: string;
  readonly network: Network;
  readonly clock: Clock;
  readonly retry: { readonly initial: number; readonly max: number };
  readonly signal: AbortSignal;
}): Promise<void> {
  const { ring, network, clock, signal } = options;
  const { host, port } = parseHostPort(options.endpoint);
  let position = 0;
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      const socket = await network.connect(host, port, signal);
      const stop = () => socket.destroy();
      signal.addEventListener("abort", stop, { once: true });
      try {
        const client = createClient(EventSinkService, grpcTo({ authority: options.endpoint, tls: false, socket }));
        for (;;) {
          const found = ring.at(position);
          if (!found) {
            await ring.wait(position, AbortSignal.any([signal, closed(socket)]));
            continue;
          }
          const { event, next } = found;
          await client.publish({ data: event.data, id: event.id, actorId: event.actor }, { signal, timeoutMs: 30_000 });
          position = next;
          ring.acknowledge(position);
          attempt = 0;
        }
      } finally {
        signal.removeEventListener("abort", stop);
        socket.destroy();
      }
    } catch {
      if (signal.aborted) return;
      await sleep(backoffDelay(attempt, options.retry), clock, signal).catch(() => {});
    }
  }
}

function closed(socket: NodeJS.EventEmitter): AbortSignal {
  const controller = new AbortController();
  socket.once("close", () => controller.abort(new Error("connection closed")));
  return controller.signal;
}

const alphabet = "0123456789abcdefghijklmnopqrstuv";
let counter = randomBytes(3).readUIntBE(0, 3);
const host = randomBytes(5);

/** An xid: 4 bytes of seconds, 5 of the process, 3 of a counter, in base32hex. */
export function xid(now: number): string {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE(Math.floor(now / 1000) >>> 0, 0);
  host.copy(bytes, 4);
  counter = (counter + 1) & 0xffffff;
  bytes.writeUIntBE(counter, 9, 3);
  let bits = 0n;
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte);
  bits <<= 4n;
  let text = "";
  for (let at = 95; at >= 0; at -= 5) text += alphabet[Number((bits >> BigInt(at)) & 31n)];
  return text;
}
