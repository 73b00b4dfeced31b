import type { Duplex } from "node:stream";
import type { Clock, Timer } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import { canonicalIP, parseHostPort } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import type { Dial } from "#talos/dial.ts";

/** A connection is tried elsewhere after that long. */
const dialTimeout = 7000;
const longestPause = 15_000;

interface Endpoint {
  readonly host: string;
  readonly port: number;
  /** Undefined while it answers; else since when it does not, on the monotonic clock. */
  badSince: number | undefined;
  open: number;
  /** Whether it has answered or failed to, once. */
  tried: boolean;
  check: Timer | undefined;
  checking: boolean;
  gone: boolean;
}

/**
 * The endpoints behind one port and whether they answer. Connections tell; an endpoint is looked after by itself only while it does not
 * answer: first as soon as it is known, then after a quarter of the time that it has been away for, 15 s at most.
 */
export class LoadBalancerEndpoints {
  readonly #dial: Dial;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #changed: () => void;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #stop = new AbortController();

  /** `changed` is called when `healthy` may have changed. */
  constructor({ dial, clock, log }: { dial: Dial; clock: Clock; log: Logger }, changed: () => void) {
    this.#dial = dial;
    this.#clock = clock;
    this.#log = log;
    this.#changed = changed;
  }

  /** Whether any endpoint answers; undefined until each was tried or one did. */
  get healthy(): boolean | undefined {
    const all = [...this.#endpoints.values()];
    if (all.some(({ badSince }) => badSince === undefined)) return true;
    return all.every(({ tried }) => tried) ? false : undefined;
  }

  /** Texts `host:port`; what cannot be read is left out. */
  set(texts: readonly string[]): void {
    const wanted = new Set<string>();
    for (const text of texts) {
      try {
        const { host, port } = parseHostPort(text);
        const key = `${canonicalIP(host)} ${port}`;
        wanted.add(key);
        if (this.#endpoints.has(key)) continue;
        const endpoint: Endpoint = {
          host: canonicalIP(host),
          port,
          badSince: this.#clock.monotonic(),
          open: 0,
          tried: false,
          check: undefined,
          checking: false,
          gone: false,
        };
        this.#endpoints.set(key, endpoint);
        this.#check(endpoint);
      } catch (error) {
        this.#log.warn({ endpoint: text, error: messageOf(error) }, "endpoint of a load balancer cannot be read");
      }
    }
    for (const [key, endpoint] of this.#endpoints) {
      if (wanted.has(key)) continue;
      this.#endpoints.delete(key);
      endpoint.gone = true;
      endpoint.check?.cancel();
    }
  }

  /** A connection to the least used endpoint that answers; undefined when none does. */
  async connect(): Promise<{ stream: Duplex } | undefined> {
    const tried = new Set<Endpoint>();
    for (;;) {
      const next = this.#best(tried);
      if (!next || this.#stop.signal.aborted) return undefined;
      tried.add(next);
      // Counted from now: others choose while this one is being opened.
      next.open++;
      const stream = await this.#open(next);
      if (!stream) {
        next.open--;
        continue;
      }
      stream.once("close", () => {
        next.open--;
        // It broke off: one look tells whether the endpoint is gone or only the connection.
        if (!stream.readableEnded && next.badSince === undefined) this.#check(next);
      });
      return { stream };
    }
  }

  /** Nothing of that host can answer now. */
  lost(host: string): void {
    for (const endpoint of this.#endpoints.values()) if (endpoint.host === host) this.#bad(endpoint);
  }

  stop(): void {
    this.#stop.abort();
    for (const endpoint of this.#endpoints.values()) endpoint.check?.cancel();
  }

  #best(tried: ReadonlySet<Endpoint>): Endpoint | undefined {
    let best: Endpoint | undefined;
    const rank = ({ badSince, open }: Endpoint) => (badSince === undefined ? 0 : 1_000_000) + open;
    for (const endpoint of this.#endpoints.values()) {
      if (!tried.has(endpoint) && (!best || rank(endpoint) < rank(best))) best = endpoint;
    }
    return best;
  }

  async #open(endpoint: Endpoint): Promise<Duplex | undefined> {
    const { host, port } = endpoint;
    try {
      const stream = await this.#dial(
        host,
        port,
        AbortSignal.any([this.#stop.signal, AbortSignal.timeout(dialTimeout)]),
      );
      stream.on("error", () => {});
      this.#good(endpoint);
      return stream;
    } catch (error) {
      this.#log.debug({ host, port, error: messageOf(error) }, "endpoint of a load balancer does not answer");
      this.#bad(endpoint);
      return undefined;
    }
  }

  #good(endpoint: Endpoint): void {
    endpoint.tried = true;
    endpoint.check?.cancel();
    endpoint.check = undefined;
    if (endpoint.badSince === undefined) return;
    endpoint.badSince = undefined;
    this.#changed();
  }

  #bad(endpoint: Endpoint): void {
    if (endpoint.gone || this.#stop.signal.aborted) return;
    if (endpoint.badSince === undefined || !endpoint.tried) {
      endpoint.badSince ??= this.#clock.monotonic();
      endpoint.tried = true;
      this.#changed();
    }
    if (endpoint.check) return;
    const away = this.#clock.monotonic() - endpoint.badSince;
    const pause = Math.min(longestPause, 200 + away / 4);
    endpoint.check = this.#clock.after(pause, () => {
      endpoint.check = undefined;
      this.#check(endpoint);
    });
  }

  /** Opens a connection and closes it again. */
  async #check(endpoint: Endpoint): Promise<void> {
    if (endpoint.checking || endpoint.gone || this.#stop.signal.aborted) return;
    endpoint.checking = true;
    const stream = await this.#open(endpoint);
    endpoint.checking = false;
    stream?.destroy();
  }
}
