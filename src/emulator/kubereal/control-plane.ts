import { createHash } from "node:crypto";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import type { ConfigView } from "#emulator/config/view.ts";
import type { Pair } from "#emulator/pki.ts";
import { sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Logger } from "#lib/log.ts";
import { KubeClient } from "./client.ts";
import { Files, type Ports } from "./files.ts";
import { keepRunning } from "./process.ts";
import { readSnapshot } from "./snapshot.ts";

/** Paths of the programs. */
export interface Programs {
  readonly apiServer: string;
  readonly etcd: string;
}

/** What runs real control planes: the programs, and the folder under which each cluster gets its own. */
export interface RealOptions {
  readonly programs: Programs;
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Running {
  readonly files: Files;
  readonly stop: AbortController;
  readonly admin: KubeClient;
  readonly ended: Promise<unknown>;
  readonly ready: Promise<void>;
}

const look = 50;

/**
 * One etcd and one kube-apiserver, which all control planes of an emulated cluster share. They run from the first control plane whose etcd
 * works until the cluster's last member is gone, or the emulator ends.
 */
export class RealControlPlane {
  readonly #options: RealOptions;
  readonly #folder: string;
  readonly #names = new Set<string>();
  #ports: Ports = { etcd: 0, etcdPeer: 0, apiServer: 0 };
  #running: Running | undefined;
  #ending: Promise<unknown> = Promise.resolve();
  /** Counts the calls of `stop`, so that a start under way learns of one. */
  #stops = 0;
  #serving: Promise<unknown> = Promise.resolve();

  constructor(cluster: string, options: RealOptions) {
    this.#options = options;
    this.#folder = join(options.folder, createHash("sha256").update(cluster).digest("hex").slice(0, 16));
  }

  /** Starts the programs where they do not run; resolves when the API answers and its certificate holds `names`. */
  serve(config: ConfigView, names: readonly string[]): Promise<void> {
    const serving = this.#serving.then(() => this.#serve(config, names));
    this.#serving = serving.catch(() => {});
    return serving;
  }

  async #serve(config: ConfigView, names: readonly string[]): Promise<void> {
    const fresh = names.some((name) => !this.#names.has(name));
    for (const name of names) this.#names.add(name);
    if (!this.#running) {
      const stops = this.#stops;
      await this.#ending;
      this.#running = await this.#start(config);
      if (stops !== this.#stops) await this.stop();
      if (!this.#running) throw new Error("the cluster ended");
    } else if (fresh) {
      const crt = await this.#running.files.writeServing([...this.#names]);
      await this.#running.ready;
      await this.#shows(crt, this.#running.stop.signal);
    }
    await this.#running.ready;
  }

  /** A connection to the API server's TLS port. */
  async connect(): Promise<Socket> {
    const socket = connect({ port: this.#ports.apiServer, host: "127.0.0.1", noDelay: true });
    await once(socket, "connect");
    return socket;
  }

  /** As the cluster's administrator, past the link: for what controllers of the control plane do. Undefined while it does not run. */
  get admin(): KubeClient | undefined {
    return this.#running?.admin;
  }

  /** The client certificate of a node's kubelet, as the control plane's signer issues it. Throws while it does not run. */
  async kubelet(node: string): Promise<Pair> {
    if (!this.#running) throw new Error("no control plane signs certificates yet");
    return this.#running.files.client(`system:node:${node}`, "system:nodes");
  }

  /** etcd's own snapshot: the database and its SHA-256. Throws while it does not run. */
  snapshot(signal: AbortSignal): AsyncGenerator<Buffer> {
    if (!this.#running) throw new Error("etcd does not run");
    return readSnapshot(this.#running.files, this.#ports.etcd, signal);
  }

  /** Ends the programs; with `erase` their data goes too. */
  stop(erase = false): Promise<unknown> {
    this.#stops++;
    const running = this.#running;
    if (!running) return this.#ending;
    this.#running = undefined;
    this.#names.clear();
    running.admin.close();
    running.stop.abort(new Error("the cluster ended"));
    this.#ending = running.ended.then(() => (erase ? rm(this.#folder, { recursive: true, force: true }) : undefined));
    return this.#ending;
  }

  async #start(config: ConfigView): Promise<Running> {
    const { clock, log, programs } = this.#options;
    const files = new Files(this.#folder, config, () => clock.now());
    await files.prepare([...this.#names]);
    this.#ports = { etcd: await freePort(), etcdPeer: await freePort(), apiServer: await freePort() };
    const stop = new AbortController();
    const shared = { clock, log, signal: stop.signal };
    const etcd = keepRunning({
      ...shared,
      name: "etcd",
      path: programs.etcd,
      logFile: files.path("etcd.log"),
      // The API server knows where etcd is: it keeps its ports over its own ends.
      args: async () => files.etcdArguments(this.#ports),
    });
    const apiServer = keepRunning({
      ...shared,
      name: "kube-apiserver",
      path: programs.apiServer,
      logFile: files.path("kube-apiserver.log"),
      args: async () => {
        this.#ports = { ...this.#ports, apiServer: await freePort() };
        return files.apiServerArguments(this.#ports);
      },
    });
    const admin = new KubeClient({
      host: "127.0.0.1",
      ca: config.kubernetes.crt,
      identity: await files.client("emulated-control-plane", "system:masters"),
      dial: () => this.connect(),
    });
    const ready = this.#untilReady(admin, stop.signal);
    ready.catch(() => {});
    return { files, stop, admin, ready, ended: Promise.all([etcd, apiServer]) };
  }

  async #untilReady(admin: KubeClient, signal: AbortSignal): Promise<void> {
    for (;;) {
      const answer = await admin.request(signal, "GET", "/readyz").catch(() => undefined);
      if (answer?.status === 200) return;
      await sleep(look, this.#options.clock, signal);
    }
  }

  /** The API server reads its certificate when the file changes: waits until it shows the new one. */
  async #shows(crt: string, signal: AbortSignal): Promise<void> {
    const wanted = crt.replace(/-----[^-]+-----|\s/g, "");
    for (;;) {
      const shown = await this.#shown().catch(() => "");
      if (shown === wanted) return;
      await sleep(look, this.#options.clock, signal);
    }
  }
  async #shown(): Promise<string> {
    const socket = tlsConnect({ socket: await this.connect(), rejectUnauthorized: false });
    try {
      await once(socket, "secureConnect");
      return socket.getPeerX509Certificate()?.raw.toString("base64") ?? "";
    } finally {
      socket.destroy();
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
