import { randomBytes } from "node:crypto";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { createSecureContext } from "node:tls";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, createContextKey, createContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { acceptTls } from "#emulator/tls.ts";
import { EventSinkService } from "#gen/events/events_pb.ts";
import { MachineStatusEventSchema } from "#gen/machine/machine_pb.ts";
import { SecurityService } from "#gen/securityapi/securityapi_pb.ts";
import {
  type PeerPacketSchema,
  type ProvisionRequest,
  ProvisionService,
  WireGuardOverGRPCService,
} from "#gen/sidero/link/link_pb.ts";
import { abortable } from "#lib/abort.ts";
import { systemClock } from "#lib/clock.ts";
import { canonicalIP } from "#lib/ip.ts";
import { Stack } from "#netstack/stack.ts";
import { createTalosClient, type TalosClient } from "#talos/client.ts";
import type { Credentials } from "#talos/dial.ts";
import { issue, issueTalosClient, signServerRequest } from "#talos/pki.ts";
import { makeSecrets, type SecretsBundle } from "#talos/secrets.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "#wireguard/device.ts";
import { Signal } from "./signal.ts";

const planeAddress = "fdae:41e4:649b:9303::1";
const trustdPort = 50_001;
/** Where the one cluster's Kubernetes API is led to its control planes. */
export const clusterPort = 10_000;
/** Where machines are told to find the Kubernetes API. */
export const clusterEndpoint = `https://[${planeAddress}]:${clusterPort}`;

/** An event as it came. */
export interface Received {
  readonly address: string;
  /** WireGuard key that the machine had then. */
  readonly key: string;
  readonly id: string;
  readonly data: Any | undefined;
}

/** The UDP end or the gRPC stream that datagrams of a machine come from. */
type Endpoint = { readonly host: string; readonly port: number } | { readonly stream: string };

const remoteKey = createContextKey("", { description: "address of the caller" });

/** A minimal plane on loopback, for one cluster. */
export class TestPlane {
  /** All Provision calls, in order. */
  readonly provisions: ProvisionRequest[] = [];
  readonly events: Received[] = [];
  /** Lines of the log receiver by machine address. */
  readonly logs = new Map<string, string[]>();
  readonly secrets: SecretsBundle;
  /** Fires after each of the above, and whatever else changes. */
  readonly changed = new Signal();
  /** Addresses of control planes for the load balancer and trustd. */
  readonly controlPlanes: string[] = [];
  /** Refuses Provision with this code while set. */
  refuse: Code | undefined;
  readonly token = "testtoken0123456789";
  readonly #addresses = new Map<string, string>();
  readonly #tunnels = new Map<string, (datagram: Uint8Array) => void>();
  readonly #open: (() => void)[] = [];
  readonly #udp: Socket;
  readonly #api: Http2Server;
  readonly #wireguard: WireGuard<Endpoint>;
  readonly #stack: Stack;
  readonly #key = generatePrivateKey();

  private constructor(secrets: SecretsBundle) {
    this.secrets = secrets;
    this.#udp = createSocket("udp4");
    this.#wireguard = new WireGuard<Endpoint>({
      privateKey: this.#key,
      clock: systemClock,
      send: (datagram, to) => {
        if ("stream" in to) this.#tunnels.get(to.stream)?.(datagram);
        else this.#udp.send(datagram, to.port, to.host, () => {});
      },
      receive: (packet) => this.#stack.input(packet),
      endpointKey: (to) => ("stream" in to ? to.stream : `${to.host}:${to.port}`),
    });
    this.#stack = new Stack({
      address: planeAddress,
      clock: systemClock,
      send: (packet) => void this.#wireguard.output(packet),
    });
    this.#udp.on("message", (datagram, from: RemoteInfo) =>
      this.#wireguard.input(datagram, { host: from.address, port: from.port }),
    );
    this.#api = createServer();
    this.#api.on("request", connectNodeAdapter({ routes: (router) => this.#machineApi(router) }));
    this.#serveSinks();
  }

  static async start(): Promise<TestPlane> {
    const plane = new TestPlane(await makeSecrets(systemClock));
    plane.#udp.bind(0, "127.0.0.1");
    plane.#api.listen(0, "127.0.0.1");
    await Promise.all([once(plane.#udp, "listening"), once(plane.#api, "listening")]);
    await plane.#serveTrustd();
    return plane;
  }
  /** What a machine is booted with. */
  url(options: { tunnel?: boolean } = {}): string {
    const { port } = this.#api.address() as AddressInfo;
    return `grpc://127.0.0.1:${port}?jointoken=${this.token}${options.tunnel ? "&grpc_tunnel=true" : ""}`;
  }
  /** Address of a machine. */
  addressOf(uuid: string): string {
    const address = this.#addresses.get(uuid);
    if (!address) throw new Error(`${uuid} has not provisioned`);
    return address;
  }
  /** Waits until a machine has provisioned, after the first `after` calls of all, and its apid accepts connections; answers its address. */
  async joined(uuid: string, after = 0): Promise<string> {
    await this.changed.until("Provision", () =>
      this.provisions.slice(after).some((request) => request.nodeUuid === uuid),
    );
    const address = this.addressOf(uuid);
    const key = this.provisions.findLast((request) => request.nodeUuid === uuid)?.nodePublicKey;
    // Its first event of the new session comes when its side of the link works.
    await this.changed.until("a handshake", () => this.events.some((event) => event.key === key));
    return address;
  }
  /** Stages that a machine told, in order (protocols.md 4.2). */
  stagesOf(address: string): number[] {
    return this.events.flatMap(({ address: from, data }) => {
      const status = data && anyUnpack(data, MachineStatusEventSchema);
      return from === address && status ? [status.stage] : [];
    });
  }
  /** Opens a TCP connection to a machine. */
  dial(address: string, port: number, signal?: AbortSignal): Promise<Duplex> {
    return this.#stack.connect(address, port, signal);
  }
  /** apid of a machine. */
  client(uuid: string, credentials: Credentials): TalosClient {
    const client = createTalosClient({
      dial: (address, port, signal) => this.dial(address, port, signal),
      address: this.addressOf(uuid),
      credentials,
    });
    this.#open.push(() => client.close());
    return client;
  }
  /** Credentials for mTLS with these roles. */
  async credentials(...roles: string[]): Promise<Credentials> {
    const { crt, key } = await issueTalosClient(this.secrets.os, roles, 3_600_000, systemClock);
    return { mode: "mtls", ca: this.secrets.os.crt, cert: crt, key };
  }
  stop(): void {
    for (const close of this.#open) close();
    this.#stack.close();
    this.#wireguard.close();
    this.#udp.close();
    this.#api.close();
  }

  #machineApi(router: ConnectRouter): void {
    router.service(ProvisionService, {
      provision: (request) => {
        if (this.refuse !== undefined) throw new ConnectError("unauthorized", this.refuse);
        if (request.joinToken !== this.token) throw new ConnectError("unauthorized", Code.PermissionDenied);
        this.provisions.push(request);
        const { port } = this.#udp.address();
        const address =
          this.#addresses.get(request.nodeUuid) ??
          canonicalIP(`fdae:41e4:649b:9303:${randomBytes(8).toString("hex").match(/..../g)?.join(":")}`);
        this.#addresses.set(request.nodeUuid, address);
        const virtual = `[${address.replace("9303", "9304")}]:50889`;
        const tunnel = request.wireguardOverGrpc === true;
        const publicKey = Buffer.from(request.nodePublicKey, "base64");
        const known = this.#wireguard.peerByAddress(address);
        // The same key again is the same peer: its session goes on.
        if (!known || Buffer.compare(known.publicKey, publicKey) !== 0) {
          if (known) this.#wireguard.removePeer(known.publicKey);
          this.#wireguard.addPeer({ publicKey, keepalive: 25, allowedIPs: [address] });
        }
        queueMicrotask(() => this.changed.fire());
        return {
          serverEndpoint: [tunnel ? virtual : `127.0.0.1:${port}`],
          serverPublicKey: Buffer.from(publicKeyOf(this.#key)).toString("base64"),
          nodeAddressPrefix: `${address}/64`,
          serverAddress: planeAddress,
          grpcPeerAddrPort: tunnel ? virtual : "",
        };
      },
    });
    router.service(WireGuardOverGRPCService, {
      createStream: (packets, context) => this.#tunnel(packets, context.requestHeader, context.signal),
    });
  }
  async *#tunnel(
    packets: AsyncIterable<{ readonly Data: Uint8Array }>,
    header: Headers,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof PeerPacketSchema>> {
    const stream = header.get("x-siderolink-ipv6-addr") ?? "";
    const queue: Uint8Array[] = [];
    let wake = Promise.withResolvers<void>();
    this.#tunnels.set(stream, (datagram) => {
      queue.push(datagram);
      wake.resolve();
    });
    const read = async () => {
      for await (const { Data } of packets) this.#wireguard.input(Data, { stream });
    };
    read().catch(() => {});
    for (;;) {
      for (let packet = queue.shift(); packet; packet = queue.shift()) yield { Data: packet };
      wake = Promise.withResolvers<void>();
      await abortable(wake.promise, signal);
    }
  }
  #serveSinks(): void {
    this.#serve(8090, (router) => {
      router.service(EventSinkService, {
        publish: ({ id, data }, context) => {
          const address = context.values.get(remoteKey);
          const key = Buffer.from(this.#wireguard.peerByAddress(address)?.publicKey ?? []).toString("base64");
          this.events.push({ address, key, id, data });
          queueMicrotask(() => this.changed.fire());
          return {};
        },
      });
    });
    this.#stack.listen(8092, (stream) => {
      const address = canonicalIP(stream.remoteAddress);
      const lines = this.logs.get(address) ?? [];
      this.logs.set(address, lines);
      let rest = "";
      stream.on("data", (chunk: Buffer) => {
        const parts = (rest + chunk.toString()).split("\n");
        rest = parts.pop() ?? "";
        lines.push(...parts);
        this.changed.fire();
      });
      stream.on("error", () => {});
    });
    this.#stack.listen(clusterPort, (down) => {
      down.on("error", () => {});
      this.#balance(down).catch(() => down.destroy());
    });
  }
  async #balance(down: Duplex): Promise<void> {
    for (const address of this.controlPlanes) {
      const up = await this.#stack.connect(address, 6443).catch(() => undefined);
      if (!up) continue;
      pipeline(down, up, () => {});
      pipeline(up, down, () => {});
      return;
    }
    down.destroy();
  }
  async #serveTrustd(): Promise<void> {
    const server = await issue(
      this.secrets.os,
      { commonName: "trustd", ips: [planeAddress], usage: "server", ttl: 3_600_000 },
      systemClock,
    );
    const secureContext = createSecureContext({
      cert: server.crt,
      key: server.key.replaceAll("ED25519 PRIVATE KEY", "PRIVATE KEY"),
      minVersion: "TLSv1.3",
    });
    const routes = (router: ConnectRouter) =>
      router.service(SecurityService, {
        certificate: async ({ csr }, { requestHeader }) => {
          if (requestHeader.get("token") !== this.secrets.trustdToken)
            throw new ConnectError("invalid token", Code.Unauthenticated);
          const crt = await signServerRequest(this.secrets.os, Buffer.from(csr).toString(), systemClock);
          return { ca: Buffer.from(this.secrets.os.crt), crt: Buffer.from(crt) };
        },
      });
    this.#serve(
      trustdPort,
      (router) => void routes(router),
      (stream, secure) => void acceptTls(stream, { secureContext, ALPNProtocols: ["h2"] }, secure),
    );
  }
  /** gRPC on a port inside the link. */
  #serve(
    port: number,
    routes: (router: ConnectRouter) => void,
    wrap = (stream: Duplex, ready: (inner: Duplex) => void) => ready(stream),
  ): void {
    const remotes = new WeakMap<object, string>();
    const server = createServer();
    let remote = "";
    server.on("session", (session) => remotes.set(session, remote));
    server.on(
      "request",
      connectNodeAdapter({
        routes,
        contextValues: (request) =>
          createContextValues().set(
            remoteKey,
            remotes.get((request as unknown as { stream: { session: object } }).stream.session) ?? "",
          ),
      }),
    );
    this.#stack.listen(port, (stream) => {
      stream.on("error", () => {});
      wrap(stream, (inner) => {
        remote = canonicalIP(stream.remoteAddress);
        server.emit("connection", inner);
      });
    });
  }
}
