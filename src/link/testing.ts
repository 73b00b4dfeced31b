import { randomBytes, randomUUID } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Message, MessageInitShape } from "@bufbuild/protobuf";
import { createRouterTransport, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type ProvisionRequestSchema, type ProvisionResponse, ProvisionService } from "#gen/sidero/link/link_pb.ts";
import { type Clock, systemClock } from "#lib/clock.ts";
import { formatHostPort, parseHostPort } from "#lib/ip.ts";
import { silent } from "#lib/log.ts";
import { readsWhole } from "#lib/whole-answer.ts";
import { Stack } from "#netstack/stack.ts";
import type { Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "#wireguard/device.ts";
import { planeAddress } from "./address.ts";
import { type Link, startLink } from "./service.ts";
import { UserEngine } from "./user/engine.ts";

/** The whole link on loopback, over a store in memory: what a plane runs, without controllers. For tests. */
export class TestLink {
  readonly state: State;
  readonly engine: UserEngine;
  readonly link: Link;
  /** The machine API, in the process. */
  readonly transport: Transport;
  readonly directory: string;
  readonly #stop: AbortController;

  private constructor(
    state: State,
    engine: UserEngine,
    link: Link,
    transport: Transport,
    directory: string,
    stop: AbortController,
  ) {
    this.state = state;
    this.engine = engine;
    this.link = link;
    this.transport = transport;
    this.directory = directory;
    this.#stop = stop;
  }

  static async start(clock: Clock = systemClock, given?: { state: State; privateKey: Uint8Array }): Promise<TestLink> {
    const state = given?.state ?? new State(new MemoryStore({ clock }));
    const engine = await UserEngine.start({
      privateKey: given?.privateKey ?? generatePrivateKey(),
      address: planeAddress,
      bind: { host: "127.0.0.1", port: 0 },
      clock,
      log: silent,
    });
    const stop = new AbortController();
    const directory = mkdtempSync(join(tmpdir(), "ichor-link-"));
    const link = await startLink({
      state,
      engine,
      clock,
      log: silent,
      directory,
      endpoints: () => [`127.0.0.1:${engine.udp.port}`],
      signal: stop.signal,
    });
    const transport = createRouterTransport((router) => link.routes(router));
    return new TestLink(state, engine, link, transport, directory, stop);
  }

  async close(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    await this.link.close();
    await this.engine.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A machine at the other end: WireGuard and TCP of its own over real UDP, or over whatever carries its datagrams. For tests. */
export class TestMachine {
  readonly uuid: string = randomUUID();
  readonly privateKey: Uint8Array = generatePrivateKey();
  readonly publicKey: string = Buffer.from(publicKeyOf(this.privateKey)).toString("base64");
  readonly uniqueToken: string = JSON.stringify({ Fingerprint: randomBytes(32).toString("hex"), Token: randomUUID() });
  address = "";
  answer: ProvisionResponse | undefined;
  /** Datagrams that came. */
  received = 0;
  /** What it sends through the tunnel besides what is for the plane. */
  readonly reaches: string[] = [];
  readonly #clock: Clock;
  #socket: Socket | undefined;
  #wireguard: WireGuard<string> | undefined;
  #stack: Stack | undefined;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** The same machine after a boot: another key, nothing of its connections. */
  reboot(): TestMachine {
    return Object.assign(new TestMachine(this.#clock), { uuid: this.uuid, uniqueToken: this.uniqueToken });
  }

  /** What it asks for, with changes. */
  request(
    changes: MessageInitShape<typeof ProvisionRequestSchema> = {},
  ): MessageInitShape<typeof ProvisionRequestSchema> {
    return {
      nodeUuid: this.uuid,
      nodePublicKey: this.publicKey,
      nodeUniqueToken: this.uniqueToken,
      talosVersion: "v1.13.0",
      ...changes,
    };
  }

  /** Provisions through the machine API, and brings its end of the tunnel up. */
  async join(plane: TestLink, changes: MessageInitShape<typeof ProvisionRequestSchema> = {}): Promise<void> {
    this.up(await this.provision(plane, changes));
  }

  /** Provisions, and leaves its end of the tunnel as it is. */
  async provision(
    plane: TestLink,
    changes: MessageInitShape<typeof ProvisionRequestSchema> = {},
  ): Promise<ProvisionResponse> {
    const method = ProvisionService.method.provision;
    const answer = await plane.transport.unary(method, undefined, undefined, {}, this.request(changes));
    return answer.message as ProvisionResponse;
  }

  /** Brings the tunnel up by an answer; `send` carries datagrams instead of UDP. */
  up(answer: ProvisionResponse, send?: (datagram: Uint8Array) => void): void {
    this.close();
    this.answer = answer;
    this.address = answer.nodeAddressPrefix.split("/")[0] ?? "";
    const endpoint = answer.serverEndpoint.at(-1) ?? "";
    if (!send) {
      const socket = createSocket("udp4", (datagram, from) =>
        this.receive(datagram, formatHostPort(from.address, from.port)),
      );
      socket.unref();
      this.#socket = socket;
    }
    const wireguard = new WireGuard<string>({
      privateKey: this.privateKey,
      clock: this.#clock,
      send:
        send ??
        ((datagram, to) => {
          const { host, port } = parseHostPort(to);
          this.#socket?.send(datagram, port, host, () => {});
        }),
      receive: (packet) => this.#stack?.input(packet),
    });
    this.#wireguard = wireguard;
    this.#stack = new Stack({
      address: this.address,
      clock: this.#clock,
      send: (packet) => void wireguard.output(packet),
    });
    wireguard.addPeer({
      publicKey: Buffer.from(answer.serverPublicKey, "base64"),
      endpoint,
      keepalive: 25,
      allowedIPs: [planeAddress, ...this.reaches],
    });
  }

  receive(datagram: Uint8Array, from = "tunnel"): void {
    this.received++;
    this.#wireguard?.input(datagram, from);
  }

  /** TCP into the link. A stream that fails because one end was closed is no failure of a test: only who waits for it hears. */
  async connect(port: number, signal?: AbortSignal, address = planeAddress): Promise<Duplex> {
    if (!this.#stack) throw new Error("join first");
    const stream = await this.#stack.connect(address, port, signal);
    return stream.on("error", () => {});
  }

  /** gRPC to a port of the plane inside the tunnel; Node leaves the brackets out of its own `:authority`, Go's clients do not. */
  async grpc(port: number, authority = `[${planeAddress}]:${port}`): Promise<Transport> {
    const stream = await this.connect(port);
    const baseUrl = `http://[${planeAddress}]:${port}`;
    const session = connectHttp2(baseUrl, { createConnection: () => stream });
    session.on("error", () => {});
    return createGrpcTransport({
      baseUrl,
      sessionManager: {
        authority: baseUrl,
        async request(method, path, headers, options) {
          const all = { ...headers, ":authority": authority, ":method": method, ":path": path };
          return readsWhole(session.request(all, options));
        },
        notifyResponseByteRead() {},
      },
    });
  }

  close(): void {
    this.#stack?.close();
    this.#wireguard?.close();
    this.#socket?.close();
    this.#socket = undefined;
  }
}

/** Waits until a resource, or its absence, is as it should be. */
export async function until<S extends Message>(
  state: State,
  kind: Kind<S>,
  id: string,
  is: (resource: Resource<S> | undefined) => boolean,
  signal: AbortSignal = AbortSignal.timeout(10_000),
): Promise<void> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  try {
    for await (const event of state.watch(kind, { from: "bootstrap", signal: both })) {
      const seen = event.kind === "bootstrapped" || event.resource.metadata.id === id;
      if (seen && is(await state.get(kind, id))) return;
    }
    throw new Error(`${kind.type} "${id}" did not become what was waited for`);
  } finally {
    stop.abort();
  }
}
