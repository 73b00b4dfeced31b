import type { Duplex } from "node:stream";
import type { Delays } from "#emulator/delays.ts";
import type { Knobs } from "#emulator/knobs.ts";
import type { Network } from "#emulator/network.ts";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import { canonicalIP } from "#lib/ip.ts";
import { Stack } from "#netstack/stack.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "#wireguard/device.ts";
import { parseApiUrl } from "./arguments.ts";
import { type Carrier, tunnelCarrier, udpCarrier } from "./carrier.ts";
import type { Joiner } from "./joiner.ts";
import { type Provisioned, provision } from "./provision.ts";

/** As in Talos: peers keep alive every 25 s; silence of 275 s means that an endpoint is dead, looked at every 30 s. */
const keepalive = 25;
const silence = 275_000;
const watchdog = 30_000;
const mtu = 1280;

type Options = Parameters<Joiner["start"]>[0];

/** Joins for real: Provision, then WireGuard in user space over UDP or a gRPC tunnel. A new key for each start, as at each boot. */
export class SideroLink implements Joiner {
  readonly #clock: Clock;
  readonly #delays: Delays;
  readonly #knobs: Knobs;

  constructor(options: { readonly clock: Clock; readonly delays: Delays; readonly knobs: Knobs }) {
    this.#clock = options.clock;
    this.#delays = options.delays;
    this.#knobs = options.knobs;
  }

  start(options: Options): { changed(): void } {
    let again = new AbortController();
    const privateKey = generatePrivateKey();
    const run = async () => {
      const link = new Link(this.#clock, this.#knobs, privateKey, options);
      options.signal.addEventListener("abort", () => link.close(), { once: true });
      for (let attempt = 0; !options.signal.aborted; ) {
        again = new AbortController();
        const signal = AbortSignal.any([options.signal, again.signal]);
        try {
          const target = parseApiUrl(options.url);
          const answer = await provision({
            target,
            trustedRoots: options.trustedRoots,
            identity: options.identity(),
            publicKey: publicKeyOf(privateKey),
            signal,
          });
          attempt = 0;
          await this.#keep(link, answer, options, signal);
        } catch (error) {
          if (options.signal.aborted) return;
          if (again.signal.aborted) continue;
          options.events.note(`controller failed: error provisioning: ${messageOf(error)}`);
          await sleep(
            backoffDelay(attempt++, { initial: this.#delays.retry, max: this.#delays.retryMax }),
            this.#clock,
            signal,
          ).catch(() => {});
        }
      }
    };
    run().catch((error) => options.events.note(messageOf(error)));
    return { changed: () => again.abort(new Error("identity changed")) };
  }

  /** Uses one answer until its endpoints are exhausted (returns) or the signal aborts (throws). */
  async #keep(link: Link, answer: Provisioned, options: Options, signal: AbortSignal): Promise<void> {
    const tunnel = answer.tunnelAddress !== "";
    for (const endpoint of tunnel ? [answer.tunnelAddress] : answer.endpoints) {
      const receive = (datagram: Uint8Array) => link.input(datagram);
      const carrier = tunnel
        ? tunnelCarrier({
            target: parseApiUrl(options.url),
            trustedRoots: options.trustedRoots,
            address: answer.tunnelAddress,
            clock: this.#clock,
            retry: this.#delays.retry,
            note: (text) => options.events.note(text),
            receive,
          })
        : await udpCarrier(endpoint, receive);
      link.use(answer, carrier, tunnel);
      let refused = false;
      carrier.refused.then((reason) => {
        refused = true;
        options.events.note(`tunnel refused: ${reason}`);
        link.wake();
      });
      for (;;) {
        await link.rest(watchdog, signal);
        if (refused) {
          await sleep(Math.min(5000, this.#delays.retry * 5), this.#clock, signal);
          return;
        }
        if (this.#clock.monotonic() - link.lastHandshake > silence) break;
      }
      options.events.note(`no handshake for ${silence / 1000}s with ${endpoint}`);
    }
  }
}

/** The machine's end of the tunnel: one WireGuard device and one TCP stack, kept over provisions as long as the address stays. */
class Link {
  readonly #clock: Clock;
  readonly #knobs: Knobs;
  readonly #options: Options;
  readonly #device: WireGuard<"plane">;
  #carrier: Carrier | undefined;
  #stack: Stack | undefined;
  #address = "";
  #tunnel = false;
  #wake = Promise.withResolvers<void>();
  /** On the monotonic clock. */
  lastHandshake: number;

  constructor(clock: Clock, knobs: Knobs, privateKey: Uint8Array, options: Options) {
    this.#clock = clock;
    this.#knobs = knobs;
    this.#options = options;
    this.lastHandshake = clock.monotonic();
    this.#device = new WireGuard<"plane">({
      privateKey,
      clock,
      mtu,
      send: (datagram) => {
        if (!this.#lost()) this.#carrier?.send(datagram);
      },
      receive: (packet) => this.#stack?.input(packet),
      onHandshake: () => {
        this.lastHandshake = clock.monotonic();
      },
    });
  }
  input(datagram: Uint8Array): void {
    if (!this.#lost()) this.#device.input(datagram, "plane");
  }
  /** Talks to the plane of `answer` through `carrier`; the network stays as it is if the address does. */
  use(answer: Provisioned, carrier: Carrier, tunnel: boolean): void {
    this.#carrier?.close();
    this.#carrier = carrier;
    this.lastHandshake = this.#clock.monotonic();
    const address = canonicalIP(answer.address);
    const same = address === this.#address && tunnel === this.#tunnel;
    if (!same) {
      this.#stack?.close();
      this.#stack = new Stack({
        address,
        mtu,
        clock: this.#clock,
        send: (packet: Uint8Array) => void this.#device.output(packet),
      });
      this.#address = address;
      this.#tunnel = tunnel;
    }
    this.#device.addPeer({
      publicKey: answer.serverKey,
      endpoint: "plane",
      keepalive,
      allowedIPs: [`${answer.serverAddress}/128`],
    });
    if (!same && this.#stack)
      this.#options.events.up(networkOf(this.#stack, address), {
        name: tunnel ? "siderolinktun" : "siderolink",
        tunnel,
      });
  }
  /** Waits, at most `ms`, for `wake`. */
  async rest(ms: number, signal: AbortSignal): Promise<void> {
    this.#wake = Promise.withResolvers<void>();
    const stop = new AbortController();
    try {
      await Promise.race([this.#wake.promise, sleep(ms, this.#clock, AbortSignal.any([signal, stop.signal]))]);
    } finally {
      stop.abort(new Error("woken"));
    }
  }
  wake(): void {
    this.#wake.resolve();
  }
  close(): void {
    this.#stack?.close();
    this.#device.close();
    this.#carrier?.close();
    this.#carrier = undefined;
  }
  #lost(): boolean {
    const loss = this.#knobs.loss ?? 0;
    return loss > 0 && Math.random() < loss;
  }
}

function networkOf(stack: Stack, address: string): Network {
  return {
    address,
    listen(port, accept) {
      const listener = stack.listen(port, (stream: Duplex & { remoteAddress: string }) =>
        accept(stream, canonicalIP(stream.remoteAddress)),
      );
      return { close: () => void listener.close() };
    },
    connect: (host, port, signal) => stack.connect(host, port, signal),
  };
}
