import { createServer as createHttp1 } from "node:http";
import { createServer as createHttp2, type Http2ServerRequest } from "node:http2";
import { type Duplex, pipeline } from "node:stream";
import { createSecureContext, type TLSSocket } from "node:tls";
import { isIP } from "#emulator/apid/certificates.ts";
import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import type { ConfigView } from "#emulator/config/view.ts";
import { type Network, ports } from "#emulator/network.ts";
import { issue } from "#emulator/pki.ts";
import { acceptTls } from "#emulator/tls.ts";
import { upgradePod } from "./exec.ts";
import { handleKube } from "./handler.ts";
import { seedObjects } from "./seed.ts";
import { startWorkloads } from "./workloads.ts";

interface Connection {
  readonly boot: Boot;
  readonly cluster: Cluster;
}

/** One pair of HTTP servers for all control planes of the process: a connection brings its machine with it. */
const connections = new WeakMap<object, Connection>();

const http1 = createHttp1((request, response) => {
  const found = connections.get(request.socket);
  if (found) void handleKube(found.boot, found.cluster, request.socket as TLSSocket, request, response);
  else request.socket.destroy();
});
http1.on("upgrade", (request, socket, head) => {
  const found = connections.get(request.socket);
  if (found) upgradePod(found.boot, found.cluster, request, socket as TLSSocket, head);
  else socket.destroy();
});
let handing: (Connection & { readonly socket: TLSSocket }) | undefined;
const http2 = createHttp2({ settings: { maxConcurrentStreams: 250, enableConnectProtocol: false } });
const sessions = new WeakMap<object, Connection & { readonly socket: TLSSocket }>();
http2.on("session", (session) => {
  if (handing) sessions.set(session, handing);
});
http2.on("request", (request: Http2ServerRequest, response) => {
  const found = request.stream.session && sessions.get(request.stream.session);
  if (found) void handleKube(found.boot, found.cluster, found.socket, request, response);
  else request.stream.close();
});

const day = 86_400_000;

/** The Kubernetes API of one control plane: listens inside the link while its etcd works. */
export class KubeServer {
  readonly #boot: Boot;
  readonly #cluster: Cluster;
  readonly #open = new Set<Duplex>();
  #listener: { close(): void } | undefined;
  #running = false;
  #off: (() => void) | undefined;

  constructor(boot: Boot, cluster: Cluster) {
    this.#boot = boot;
    this.#cluster = cluster;
    const listen = () => {
      if (this.#running && boot.network)
        this.#listen(boot.network).catch((error) =>
          boot.chassis.log.warn({ error }, "emulated API server cannot listen"),
        );
    };
    boot.onNetwork.add(listen);
    const madeOf = () => JSON.stringify(boot.config && [boot.config.kubernetes, this.#names(boot.config)]);
    let used = madeOf();
    boot.onConfig.add(() => {
      const now = madeOf();
      if (now !== used) listen();
      used = now;
    });
    boot.signal.addEventListener("abort", () => this.stop(), { once: true });
  }
  /** Starts to answer; does nothing when it does already. */
  async start(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    if (!this.#cluster.real) {
      seedObjects(this.#cluster.objects);
      this.#off = startWorkloads(this.#cluster, this.#boot);
    }
    if (this.#boot.network) await this.#listen(this.#boot.network);
  }
  /** Stops to listen and cuts all connections. */
  stop(): void {
    this.#running = false;
    this.#off?.();
    this.#off = undefined;
    this.#listener?.close();
    this.#listener = undefined;
    for (const stream of this.#open) stream.destroy();
  }

  async #listen(network: Network): Promise<void> {
    const { config } = this.#boot;
    if (!config) return;
    const names = this.#names(config);
    const { real } = this.#cluster;
    if (real) {
      await real.serve(config, names);
      if (!this.#running || this.#boot.network !== network) return;
      this.#replace(network, (stream) => splice(stream, real.connect()));
      // Kubelets that wait for the API server need not be late.
      this.#cluster.touch();
      return;
    }
    const pair = await issue(
      { crt: config.kubernetes.crt, key: config.kubernetes.key },
      {
        commonName: "kube-apiserver",
        organizations: ["kube-master"],
        server: true,
        dns: names.filter((name) => !isIP(name)),
        ips: names.filter(isIP),
        notBefore: this.#boot.now() - 60_000,
        validity: 365 * day,
      },
    );
    if (!this.#running || this.#boot.network !== network) return;
    const secureContext = createSecureContext({ cert: pair.crt, key: pair.key, ca: config.kubernetes.crt });
    this.#replace(network, (stream) => this.#accept(stream, secureContext));
  }

  #replace(network: Network, accept: (stream: Duplex) => void): void {
    this.#listener?.close();
    this.#listener = network.listen(ports.kubernetes, (stream) => {
      this.#open.add(stream);
      stream.once("close", () => this.#open.delete(stream));
      accept(stream);
    });
  }

  /** All names and addresses by which this control plane's API server is called. */
  #names(config: ConfigView): string[] {
    const host = new URL(config.endpoint).hostname.replace(/^\[|\]$/g, "");
    const own = [
      "kubernetes",
      "kubernetes.default",
      "kubernetes.default.svc",
      "kubernetes.default.svc.cluster.local",
      "localhost",
      this.#boot.hostname,
      "127.0.0.1",
      "10.96.0.1",
    ];
    return [...new Set([...own, ...this.#boot.addresses(), host, ...config.apiServerSANs, ...config.certSANs])];
  }

  #accept(stream: Duplex, secureContext: ReturnType<typeof createSecureContext>): void {
    const found = { boot: this.#boot, cluster: this.#cluster };
    acceptTls(stream, { secureContext, ALPNProtocols: ["h2", "http/1.1"], requestCert: true }, (socket) => {
      if (socket.alpnProtocol === "h2") {
        handing = { ...found, socket };
        try {
          http2.emit("connection", socket);
        } finally {
          handing = undefined;
        }
      } else {
        connections.set(socket, found);
        http1.emit("connection", socket);
      }
    });
  }
}

/** Joins a connection from the link to one of the real API server: its TLS goes through untouched. */
function splice(stream: Duplex, opening: Promise<Duplex>): void {
  stream.on("error", () => {});
  opening.then(
    (socket) => {
      pipeline(stream, socket, () => {});
      pipeline(socket, stream, () => {});
    },
    () => stream.destroy(),
  );
}
