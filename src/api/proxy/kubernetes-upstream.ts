import { Agent, type AgentOptions, type ClientRequest, type RequestOptions, request } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, createSecureContext, type SecureContext } from "node:tls";
import type { Clock } from "#lib/clock.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import { survivable } from "#lib/tls-over-stream.ts";
import type { State } from "#store/state.ts";
import type { Dial } from "#talos/dial.ts";
import { issueKubernetesAdmin, opensslKey } from "#talos/pki.ts";
import { EndpointHealth } from "./endpoint-health.ts";
import { Issued, issuedLifetime } from "./issued.ts";
import { Liveness } from "./liveness.ts";
import type { MachineIndex } from "./machine-index.ts";

/** Port of kube-apiserver on a control plane. */
export const kubernetesPort = 6443;
/** Dial and handshake together; the next control plane is tried then. */
const connectTimeout = 7000;
/** An unused connection is let go before the API server would (it waits 90 s). */
const idleTimeout = 30_000;

/** Connections to the API servers of all clusters, as the plane's own administrator, pooled per control plane. */
export class KubernetesUpstreams {
  readonly #machines: MachineIndex;
  readonly #log: Logger;
  readonly #pools: Issued<Pool>;
  readonly #current = new Map<string, Pool>();
  readonly #health: EndpointHealth;
  readonly #liveness: Liveness;
  readonly #stopWatching: () => void;

  constructor(options: { state: State; dial: Dial; clock: Clock; log: Logger; machines: MachineIndex }) {
    const { state, dial, clock, log, machines } = options;
    this.#machines = machines;
    this.#log = log;
    this.#health = new EndpointHealth(clock);
    this.#liveness = new Liveness(clock, async (address) => {
      try {
        const stream = await dial(address, kubernetesPort, AbortSignal.timeout(connectTimeout));
        stream.on("error", () => {}).destroy();
      } catch (error) {
        this.#health.bad(address);
        throw error;
      }
    });
    this.#pools = new Issued(state, clock, async ({ kubernetes }, spec) => {
      const { crt, key } = await issueKubernetesAdmin(kubernetes, issuedLifetime, clock);
      const extra = spec.extraCerts?.k8s?.crt;
      const ca = extra?.length ? [kubernetes.crt, Buffer.from(extra).toString()] : [kubernetes.crt];
      return new Pool(dial, createSecureContext({ ca, cert: crt, key: opensslKey(key), minVersion: "TLSv1.2" }));
    });
    this.#stopWatching = machines.onLost(({ cluster, address }) => this.#current.get(cluster)?.drop(address));
  }

  /**
   * Opens a request at the first control plane of the cluster that answers; nothing of a body is sent before. Throws `not_found` for a
   * cluster without secrets, `failed_precondition` without control planes, `unavailable` when none answers.
   */
  async open(cluster: string, options: RequestOptions, signal: AbortSignal): Promise<ClientRequest> {
    const pool = await this.#pool(cluster);
    await this.#machines.ready(signal);
    const addresses = this.#health.order(this.#machines.controlPlanes(cluster).map(({ address }) => address));
    if (addresses.length === 0)
      throw new IchorError("failed_precondition", `cluster "${cluster}" has no control plane that runs yet`);
    let last: unknown;
    for (const address of addresses) {
      signal.throwIfAborted();
      try {
        const opened = await pool.open(address, options, signal);
        this.#health.good(address);
        this.#guard(address, opened.socket as Socket);
        return opened;
      } catch (error) {
        if (signal.aborted) throw error;
        last = error;
        this.#health.bad(address);
        this.#log.info({ cluster, address, error: messageOf(error) }, "control plane does not answer");
      }
    }
    const said = last instanceof IchorError ? `: ${last.message}` : "";
    throw new IchorError("unavailable", `no control plane of cluster "${cluster}" answers${said}`, { cause: last });
  }

  /** Cuts all connections. */
  close(): void {
    this.#stopWatching();
    for (const pool of this.#current.values()) pool.cut();
    this.#current.clear();
  }

  /** Until the connection is closed, or free for the next request. */
  #guard(address: string, socket: Socket): void {
    const stop = this.#liveness.guard(
      address,
      () => socket.bytesRead,
      (error) => socket.destroy(error),
    );
    const end = () => {
      stop();
      socket.off("close", end).off("free", end);
    };
    socket.on("close", end).on("free", end);
  }

  async #pool(cluster: string): Promise<Pool> {
    const pool = await this.#pools.get(cluster).catch((error) => {
      this.#current.get(cluster)?.retire();
      this.#current.delete(cluster);
      throw error;
    });
    const old = this.#current.get(cluster);
    if (old !== pool) {
      // What runs on the old certificate goes on to its end.
      old?.retire();
      this.#current.set(cluster, pool);
    }
    return pool;
  }
}

/** Keeps connections of one certificate. */
class Pool extends Agent {
  readonly #dial: Dial;
  readonly #context: SecureContext;
  /** By address; the agent itself forgets those that became raw connections. */
  readonly #open = new Map<string, Set<Duplex>>();

  constructor(dial: Dial, context: SecureContext) {
    const options: AgentOptions = { keepAlive: true, maxFreeSockets: 8, timeout: idleTimeout, scheduling: "lifo" };
    super(options);
    this.#dial = dial;
    this.#context = context;
  }

  /** Resolves when a connection carries the request. */
  open(address: string, options: RequestOptions, signal: AbortSignal): Promise<ClientRequest> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ ...options, agent: this, host: address, port: kubernetesPort });
      const stop = () => outgoing.destroy(new IchorError("canceled", "the caller went away"));
      signal.addEventListener("abort", stop, { once: true });
      // When it became a raw connection, whoever has that ends it.
      outgoing.once("close", () => signal.removeEventListener("abort", stop));
      outgoing.once("error", reject);
      outgoing.once("socket", () => {
        outgoing.off("error", reject);
        resolve(outgoing);
      });
    });
  }

  override createConnection(
    options: { host?: string | null },
    done: (error: Error | null, socket: Duplex) => void,
  ): null {
    const address = options.host ?? "";
    openTls(this.#dial, address, this.#context).then(
      (socket) => {
        const open = this.#open.get(address) ?? new Set();
        this.#open.set(address, open.add(socket));
        socket.once("close", () => {
          open.delete(socket);
          if (open.size === 0 && this.#open.get(address) === open) this.#open.delete(address);
        });
        done(null, socket);
      },
      (error) => done(error, undefined as unknown as Duplex),
    );
    return null;
  }

  /** Cuts all connections to a machine whose link is gone: nothing else would tell those who wait on them. */
  drop(address: string): void {
    for (const socket of this.#open.get(address) ?? []) socket.destroy();
  }

  cut(): void {
    for (const open of this.#open.values()) for (const socket of open) socket.destroy();
    this.destroy();
  }

  /** No new use: idle connections go now, the others when they are done. */
  retire(): void {
    this.maxFreeSockets = 0;
    for (const sockets of Object.values(this.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }
}

async function openTls(dial: Dial, address: string, secureContext: SecureContext): Promise<Duplex> {
  const limit = AbortSignal.timeout(connectTimeout);
  const stream = await dial(address, kubernetesPort, limit).catch((cause: unknown) => {
    if (cause instanceof IchorError) throw cause;
    throw new IchorError("unavailable", `the API server at ${address} does not answer`, { cause });
  });
  return new Promise((resolve, reject) => {
    const socket = survivable(
      connectTls({
        socket: stream,
        secureContext,
        // Every API server's certificate is for localhost (protocols.md 10.6), not each for its address in the link.
        servername: "localhost",
        ALPNProtocols: ["http/1.1"],
      }),
    );
    // Else a connection that the API server ended stays in the pool: a stream of the link may be half open, and TLS takes that over.
    socket.allowHalfOpen = false;
    const fail = (error: Error) => {
      limit.removeEventListener("abort", late);
      socket.destroy();
      stream.destroy();
      reject(
        new IchorError("unavailable", `the API server at ${address} cannot be trusted or reached`, { cause: error }),
      );
    };
    const late = () => fail(new Error("no answer to the TLS handshake"));
    limit.addEventListener("abort", late, { once: true });
    // Whoever uses the connection listens too; an error between the users must not end the process.
    socket.on("error", () => {});
    stream.on("error", () => {});
    socket.once("error", fail);
    socket.once("close", () => stream.destroy());
    socket.once("secureConnect", () => {
      limit.removeEventListener("abort", late);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}
