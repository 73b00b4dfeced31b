import type { Duplex } from "node:stream";
import type { LoadBalancerConfigSpec } from "#gen/specs/specs_pb.ts";
import { LoadBalancerConfigKind } from "#kinds/cluster/load-balancer-config.ts";
import { LoadBalancerStatusKind } from "#kinds/cluster/load-balancer-status.ts";
import { abortable } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock, Timer } from "#lib/clock.ts";
import { codeOf, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";
import type { Dial } from "#talos/dial.ts";
import { follow } from "./follow.ts";
import type { Accepted, Listen } from "./listen.ts";
import { LoadBalancerEndpoints } from "./load-balancer-endpoints.ts";
import type { MachineIndex } from "./machine-index.ts";
import { splice } from "./splice.ts";

/** Owner of the statuses. */
const owner = "load-balancer";
/** Connections that one cluster may have through the plane at a time. */
const mostConnections = 2000;

/** What the load balancers are made with. */
export interface LoadBalancerOptions {
  readonly listen: Listen;
  readonly dial: Dial;
  readonly state: State;
  readonly machines: MachineIndex;
  readonly log: Logger;
  readonly clock: Clock;
  /** Ends all of them, as `close` does. */
  readonly signal: AbortSignal;
}

/**
 * For each LoadBalancerConfig a port on the plane's SideroLink address that leads to the API servers of the cluster (protocols.md 15.6):
 * TCP as it is, to an endpoint that answers. LoadBalancerStatus tells whether any does. Resolves when all that is configured listens, with
 * how to stop.
 */
export async function startLoadBalancers(given: LoadBalancerOptions): Promise<{ close(): Promise<void> }> {
  const end = new AbortController();
  const signal = AbortSignal.any([given.signal, end.signal]);
  const options = { ...given, signal };
  const { state, machines, log } = options;
  const balancers = new Map<string, Balancer>();
  const ready = Promise.withResolvers<void>();
  void follow(
    LoadBalancerConfigKind,
    {
      put: ({ metadata, spec }) => {
        let balancer = balancers.get(metadata.id);
        if (!balancer) {
          balancer = new Balancer(metadata.id, options);
          balancers.set(metadata.id, balancer);
        }
        balancer.configure(spec);
      },
      remove: (id) => {
        balancers.get(id)?.remove();
        balancers.delete(id);
      },
      ready: () => {
        removeOrphans(state, balancers).then(
          () => ready.resolve(),
          (error) => {
            log.warn({ error: messageOf(error) }, "cannot remove statuses of load balancers that are gone");
            ready.resolve();
          },
        );
      },
    },
    options,
  );
  const forget = machines.onLost(({ cluster, address }) => balancers.get(cluster)?.lost(address));
  signal.addEventListener(
    "abort",
    () => {
      forget();
      for (const balancer of balancers.values()) balancer.stop();
    },
    { once: true },
  );
  const settled = async () => {
    await Promise.all([...balancers.values()].map((balancer) => balancer.settled()));
  };
  await abortable(ready.promise, signal);
  await settled();
  return {
    async close() {
      end.abort();
      await settled();
    },
  };
}

/** The load balancer of one cluster. What it does on the outside happens in order, one at a time. */
class Balancer {
  readonly #cluster: string;
  readonly #options: LoadBalancerOptions;
  readonly #endpoints: LoadBalancerEndpoints;
  readonly #open = new Set<Duplex>();
  #port = 0;
  #listener: { close(): Promise<void> } | undefined;
  #retry: Timer | undefined;
  #failures = 0;
  #stopped = false;
  #work: Promise<void> = Promise.resolve();

  constructor(cluster: string, options: LoadBalancerOptions) {
    this.#cluster = cluster;
    this.#options = options;
    this.#endpoints = new LoadBalancerEndpoints(options, () => this.#report());
  }

  configure(spec: LoadBalancerConfigSpec): void {
    this.#endpoints.set(spec.endpoints);
    this.#listen(Number(spec.bindPort));
    this.#report();
  }

  /** The machine's link is gone. */
  lost(address: string): void {
    this.#endpoints.lost(address);
  }

  /** Everything so far is done. */
  settled(): Promise<void> {
    return this.#work;
  }

  /** Ends it and its status. */
  remove(): void {
    this.stop();
    this.#then(() => removeStatus(this.#options.state.as(owner), this.#cluster));
  }

  /** Ends it; the status stays for whoever comes next. */
  stop(): void {
    this.#stopped = true;
    this.#retry?.cancel();
    this.#endpoints.stop();
    for (const stream of this.#open) stream.destroy();
    this.#then(async () => {
      await this.#listener?.close();
      this.#listener = undefined;
    });
  }

  #then(work: () => Promise<unknown>): void {
    this.#work = this.#work.then(work).then(
      () => {},
      (error) => {
        if (this.#options.signal.aborted) return;
        this.#options.log.warn(
          { cluster: this.#cluster, code: codeOf(error), error: messageOf(error) },
          "load balancer failed",
        );
      },
    );
  }

  #listen(port: number): void {
    this.#then(async () => {
      if (this.#stopped || (this.#listener && this.#port === port)) return;
      await this.#listener?.close();
      this.#listener = undefined;
      this.#retry?.cancel();
      this.#port = port;
      try {
        this.#listener = await this.#options.listen(port, (accepted) => void this.#accept(accepted));
        this.#failures = 0;
      } catch (error) {
        const delay = backoffDelay(this.#failures++, { initial: 1000, max: 60_000 });
        this.#retry = this.#options.clock.after(delay, () => this.#listen(this.#port));
        throw error;
      }
    });
  }

  async #accept({ stream, remoteAddress }: Accepted): Promise<void> {
    stream.on("error", () => {});
    if (this.#stopped || this.#open.size >= mostConnections) {
      stream.destroy();
      return;
    }
    this.#open.add(stream);
    stream.once("close", () => this.#open.delete(stream));
    const upstream = await this.#endpoints.connect();
    if (!upstream || stream.destroyed) {
      this.#options.log.debug({ cluster: this.#cluster, from: remoteAddress }, "no control plane to lead to");
      upstream?.stream.destroy();
      stream.destroy();
      return;
    }
    await splice(stream, upstream.stream);
  }

  #report(): void {
    this.#then(async () => {
      if (this.#stopped) return;
      const { healthy } = this.#endpoints;
      // What was known before the plane started stays until it is known anew.
      if (healthy === undefined) return;
      await this.#options.state.as(owner).modify(LoadBalancerStatusKind, this.#cluster, ({ spec }) => {
        spec.healthy = healthy;
        spec.stopped = false;
      });
    });
  }
}

async function removeOrphans(state: State, kept: ReadonlyMap<string, unknown>): Promise<void> {
  for (const { metadata } of await state.list(LoadBalancerStatusKind)) {
    if (!kept.has(metadata.id)) await removeStatus(state.as(owner), metadata.id);
  }
}

async function removeStatus(state: State, cluster: string): Promise<void> {
  const key = LoadBalancerStatusKind.key(cluster);
  try {
    if (await state.teardown(key)) await state.destroy(key);
  } catch (error) {
    if (codeOf(error) !== "not_found") throw error;
  }
}
