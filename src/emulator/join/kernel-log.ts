import type { Network } from "#emulator/network.ts";
import { sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { parseHostPort } from "#lib/ip.ts";

/** One record of the kernel ring buffer. */
export interface KernelRecord {
  readonly seq: number;
  /** Microseconds since boot. */
  readonly clock: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly facility: "kern" | "user" | "daemon";
  readonly priority: "err" | "warning" | "notice" | "info" | "debug";
  readonly message: string;
}

const capacity = 2000;

/** The kernel log of one boot, bounded; machined writes its own log here too. */
export class KernelLog {
  readonly #clock: Clock;
  readonly #started: number;
  readonly #records: KernelRecord[] = [];
  readonly #listeners = new Set<() => void>();
  #seq = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#started = clock.monotonic();
  }
  write(
    message: string,
    facility: KernelRecord["facility"] = "user",
    priority: KernelRecord["priority"] = "info",
  ): void {
    const clock = Math.max(1, Math.round((this.#clock.monotonic() - this.#started) * 1000));
    this.#records.push({ seq: this.#seq++, clock, at: this.#clock.now(), facility, priority, message });
    if (this.#records.length > capacity) this.#records.shift();
    for (const listener of [...this.#listeners]) listener();
  }
  /** machined's own form: component and controller in brackets. */
  talos(message: string): void {
    this.write(`[talos] ${message}`);
  }
  /** Records from number `seq` on. */
  from(seq: number): KernelRecord[] {
    const first = this.#records[0]?.seq ?? 0;
    return this.#records.slice(Math.max(0, seq - first));
  }
  get end(): number {
    return this.#seq;
  }
  /** Calls back after each write until the answer is called. */
  follow(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** A record as `dmesg` prints it. */
export function dmesgLine(record: KernelRecord): string {
  return `${record.facility}: ${record.priority.padStart(7)}: [${new Date(record.at).toISOString().replace("Z", "000000Z")}]: ${record.message}\n`;
}

/** A record as the log receiver gets it (protocols.md 4.3). */
export function jsonLine(record: KernelRecord): string {
  return `${JSON.stringify({
    clock: record.clock,
    facility: record.facility,
    msg: record.message,
    priority: record.priority,
    seq: record.seq,
    "talos-level":
      record.priority === "err"
        ? "error"
        : record.priority === "warning"
          ? "warn"
          : record.priority === "notice"
            ? "info"
            : record.priority,
    "talos-time": `${new Date(record.at).toISOString().slice(0, -1)}${String(record.seq % 1_000_000).padStart(6, "0")}Z`,
  })}\n`;
}

/** Sends the log to `tcp://host:port` until the signal aborts: 1 s between tries, goes on where it was. */
export async function sendKernelLog(options: {
  readonly log: KernelLog;
  readonly url: string;
  readonly network: Network;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { log, network, clock, signal } = options;
  if (!options.url.startsWith("tcp://")) return;
  const { host, port } = parseHostPort(options.url.slice("tcp://".length).replace(/\/$/, ""));
  let next = 0;
  while (!signal.aborted) {
    try {
      const socket = await network.connect(host, port, signal);
      await new Promise<void>((resolve) => {
        let draining = false;
        const send = () => {
          for (const record of draining ? [] : log.from(next)) {
            next = record.seq + 1;
            if (!socket.write(jsonLine(record))) {
              draining = true;
              break;
            }
          }
        };
        const stop = log.follow(send);
        const abort = () => socket.destroy();
        signal.addEventListener("abort", abort, { once: true });
        socket.on("drain", () => {
          draining = false;
          send();
        });
        socket.on("error", () => {});
        socket.resume();
        socket.on("end", () => socket.destroy());
        socket.once("close", () => {
          stop();
          signal.removeEventListener("abort", abort);
          resolve();
        });
        send();
      });
    } catch {
      // Unreachable: the log waits in its ring.
    }
    await sleep(1000, clock, signal).catch(() => {});
  }
}
