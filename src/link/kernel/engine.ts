import { type AddressInfo, createServer, isIP, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock, Timer } from "#lib/clock.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import { canonicalIP, formatHostPort } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import type { Endpoint, EngineOptions, Incoming, LinkEngine, Peer, PeerEvent } from "#link/engine.ts";
import { publicKeyOf } from "#wireguard/device.ts";
import { claim, Device, type DeviceOptions } from "./device.ts";
import { dial, keepAlive } from "./dial.ts";
import { Fence } from "./fence.ts";
import { checkPrivilege } from "./needs.ts";
import { Newest } from "./newest.ts";
import { Presence } from "./presence.ts";
import { Relay } from "./relay.ts";

/** Name of the interface. One on a host is all there can be: every plane has the same address. */
const interfaceName = "ichor0";
/** Time between two looks at the interface: how late a change is told at most. */
const period = 1_000;

interface Known {
  readonly address: string;
  /** Public key in base64. */
  readonly key: string;
  endpoint: Endpoint | undefined;
  readonly sockets: Set<Socket>;
}

interface Tunnel {
  readonly id: string;
  readonly relay: Relay;
  /** Of the relay, once it is bound. */
  port?: number;
}

/** WireGuard and TCP of the operating system: what needs a privilege, and is fast. */
export class KernelEngine implements LinkEngine {
  readonly publicKey: Uint8Array;
  readonly address: string;
  readonly udp: { readonly host: string; readonly port: number };
  readonly #how: DeviceOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #fence: Fence;
  #device: Device;
  readonly #byAddress = new Map<string, Known>();
  readonly #byKey = new Map<string, Known>();
  readonly #relays = new Map<string, Tunnel>();
  readonly #tunnelOfPort = new Map<number, Tunnel>();
  readonly #presence: Presence;
  readonly #events = new Newest<PeerEvent>(({ address }) => address);
  readonly #servers = new Set<Server>();
  /** The interface is changed by one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  #closed = false;

  /** Makes the interface; of `bind` the port alone counts, since it listens on all addresses of the host. Throws with what to do: no privilege, a program that is missing, a port or a name that is taken. */
  static async start(options: EngineOptions): Promise<KernelEngine> {
    checkPrivilege();
    const { address, log, bind } = options;
    const publicKey = publicKeyOf(options.privateKey);
    const how = { ...options, name: interfaceName, publicKey: Buffer.from(publicKey).toString("base64") };
    await claim(interfaceName, how.publicKey);
    const fence = await Fence.raise(interfaceName, address, log);
    try {
      const device = await Device.open(how);
      // After a loss it comes back on the same port, whatever was asked for.
      const again = { ...how, bind: { host: bind.host, port: device.port } };
      log.info({ interface: interfaceName, carrier: device.carrier, port: device.port }, "WireGuard interface made");
      return new KernelEngine(again, publicKey, fence, device, log);
    } catch (error) {
      await fence.remove();
      throw error;
    }
  }

  private constructor(how: DeviceOptions, publicKey: Uint8Array, fence: Fence, device: Device, log: Logger) {
    this.#how = how;
    this.publicKey = publicKey;
    this.address = how.address;
    this.udp = how.bind;
    this.#clock = how.clock;
    this.#log = log;
    this.#fence = fence;
    this.#device = device;
    this.#presence = new Presence((host, port) => this.#endpointAt(host, port));
    this.#watch(period);
  }

  setPeer(peer: Peer): Promise<void> {
    const key = Buffer.from(peer.publicKey).toString("base64");
    return this.#inTurn(async () => {
      const before = this.#byAddress.get(peer.address);
      if (before?.key === key) {
        // Another way of the same boot: its tunnel is new to us, any other place it shows by itself.
        if (peer.endpoint?.kind !== "tunnel") return;
        const known = before.endpoint?.kind === "tunnel" && before.endpoint.id === peer.endpoint.id;
        before.endpoint = peer.endpoint;
        if (!known) await this.#device.set("peer", key, ...this.#placeOf(before));
        return;
      }
      // The machine booted, or the same key moves to another address: connections of before are dead.
      for (const old of [before, this.#byKey.get(key)]) if (old) await this.#forget(old);
      const known: Known = { address: peer.address, key, endpoint: peer.endpoint, sockets: new Set() };
      this.#byAddress.set(known.address, known);
      this.#byKey.set(key, known);
      this.#presence.add(key, known.address);
      try {
        await this.#add(known);
      } catch (error) {
        // With an interface that is gone, the peer is in the one that comes.
        if (!(await this.#device.exists())) return;
        this.#drop(known);
        throw error;
      }
    });
  }

  removePeer(publicKey: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      const known = this.#byKey.get(Buffer.from(publicKey).toString("base64"));
      if (known) await this.#forget(known);
    });
  }

  async listen(port: number, onConnection: (incoming: Incoming) => void): Promise<{ close(): Promise<void> }> {
    const server = createServer(keepAlive, (socket) => {
      const remoteAddress = canonicalIP(socket.remoteAddress?.replace(/%.*$/, "") ?? "::");
      const known = this.#byAddress.get(remoteAddress);
      // Programs of this host come by another way than the tunnel; nobody else has that address.
      if (!known || this.#closed) return socket.destroy();
      this.#keep(known, socket);
      // It spoke, so it is up: no need to wait for the next look.
      if (!this.#presence.isUp(known.key)) this.#watch(0);
      onConnection({ stream: socket, remoteAddress });
      return undefined;
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(cannotListen(this.address, port, cause)));
      server.listen({ host: this.address, port, ipv6Only: true }, resolve);
    });
    const bound = (server.address() as AddressInfo).port;
    this.#servers.add(server);
    await this.#fence.open(bound);
    return {
      close: async () => {
        if (!this.#servers.delete(server)) return;
        // Does not wait for connections: they go on.
        server.close();
        await this.#fence.shut(bound);
      },
    };
  }

  async connect(address: string, port: number, signal?: AbortSignal): Promise<Duplex> {
    const known = this.#byAddress.get(address);
    if (!known) throw new IchorError("not_found", `no machine has the address ${address}`);
    if (this.#closed) throw new IchorError("unavailable", "the network was closed");
    const socket = await dial(address, port, this.#clock, signal);
    if (this.#byAddress.get(address) !== known || this.#closed) {
      socket.destroy();
      throw new IchorError("unavailable", `connections with ${address} were dropped`);
    }
    this.#keep(known, socket);
    return socket;
  }

  events(signal: AbortSignal): AsyncIterable<PeerEvent> {
    return this.#events.follow(signal);
  }

  attachTunnel(
    id: string,
    send: (datagram: Uint8Array) => void,
  ): { receive(datagram: Uint8Array): void; detach(): void } {
    this.#relays.get(id)?.relay.close();
    const relay = new Relay(this.udp.port, send, (error) => {
      this.#log.warn({ tunnel: id, error: error.message }, "relay of a tunnel failed");
    });
    const tunnel: Tunnel = { id, relay };
    this.#relays.set(id, tunnel);
    void relay.ready.then(async (port) => {
      if (port === undefined || this.#relays.get(id) !== tunnel) return;
      tunnel.port = port;
      this.#tunnelOfPort.set(port, tunnel);
      await this.#place(id);
    });
    return {
      receive: (datagram) => relay.receive(datagram),
      detach: () => {
        relay.close();
        // The next one may have got its port.
        if (tunnel.port !== undefined && this.#tunnelOfPort.get(tunnel.port) === tunnel)
          this.#tunnelOfPort.delete(tunnel.port);
        if (this.#relays.get(id) !== tunnel) return;
        this.#relays.delete(id);
        void this.#place(id);
      },
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    for (const server of this.#servers) server.close();
    for (const known of this.#byAddress.values()) for (const socket of known.sockets) socket.resetAndDestroy();
    for (const { relay } of this.#relays.values()) relay.close();
    await this.#turn;
    await this.#device.close();
    await this.#fence.remove();
  }

  /** Waits for those before; they may have failed. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const mine = this.#turn.then(() => (this.#closed ? undefined : change()));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  #add(known: Known): Promise<void> {
    return this.#device.set("peer", known.key, "allowed-ips", `${known.address}/128`, ...this.#placeOf(known));
  }

  async #forget(known: Known): Promise<void> {
    this.#drop(known);
    await this.#device.set("peer", known.key, "remove");
  }

  #drop(known: Known): void {
    this.#byAddress.delete(known.address);
    this.#byKey.delete(known.key);
    this.#presence.remove(known.key);
    for (const socket of known.sockets) socket.destroy();
  }

  #keep(known: Known, socket: Socket): void {
    known.sockets.add(socket);
    socket.once("close", () => known.sockets.delete(socket));
  }

  /** Where a peer is, in the words of `wg`. To a tunnel that is not there nothing needs to be said: not even that we live. */
  #placeOf({ endpoint }: Known): string[] {
    let at = "";
    if (endpoint?.kind === "tunnel") {
      const port = this.#relays.get(endpoint.id)?.port;
      if (port === undefined) return ["persistent-keepalive", "off"];
      at = formatHostPort("127.0.0.1", port);
    } else if (endpoint) {
      // What a socket of both families calls IPv4 is not what the interface does. A name would be looked up, for minutes.
      const host = endpoint.host.replace(/^::ffff:(?=\d+\.)/i, "");
      if (isIP(host) !== 0) at = formatHostPort(host, endpoint.port);
    }
    return [...(at ? ["endpoint", at] : []), "persistent-keepalive", "25"];
  }

  /** The relay of a tunnel came or went: tells the interface, which speaks first when it came. */
  #place(id: string): Promise<void> {
    return this.#inTurn(async () => {
      for (const known of this.#byKey.values()) {
        if (known.endpoint?.kind !== "tunnel" || known.endpoint.id !== id) continue;
        await this.#device.set("peer", known.key, "persistent-keepalive", "off");
        if (this.#relays.has(id)) await this.#device.set("peer", known.key, ...this.#placeOf(known));
      }
    }).catch((error: unknown) => {
      this.#log.warn({ tunnel: id, error: messageOf(error) }, "peer behind a tunnel could not be placed");
    });
  }

  #endpointAt(host: string, port: number): Endpoint {
    const id = host === "127.0.0.1" ? this.#tunnelOfPort.get(port)?.id : undefined;
    return id === undefined ? { kind: "udp", host, port } : { kind: "tunnel", id };
  }

  /** The one timer: looks at all peers after `delay`, and so on. */
  #watch(delay: number): void {
    this.#timer?.cancel();
    const timer = this.#clock.after(delay, () => {
      void this.#inTurn(() => this.#look()).then(
        () => {
          // Somebody who is in a hurry may have set it anew meanwhile.
          if (!this.#closed && this.#timer === timer) this.#watch(period);
        },
        () => {},
      );
    });
    this.#timer = timer;
  }

  async #look(): Promise<void> {
    try {
      const dump = await this.#device.look();
      for (const event of this.#presence.look(dump, this.#clock.monotonic())) {
        this.#events.tell(event);
        // Nothing came through for so long: neither will an answer.
        if (event.kind === "down")
          for (const socket of this.#byAddress.get(event.address)?.sockets ?? []) socket.destroy();
      }
    } catch (error) {
      this.#log.warn({ interface: interfaceName, error: messageOf(error) }, "WireGuard interface cannot be read");
      await this.#mend().catch((failure: unknown) => {
        this.#log.error(
          { interface: interfaceName, error: messageOf(failure) },
          "WireGuard interface cannot be made again",
        );
      });
    }
  }

  /** Somebody took the interface away, or wireguard-go ended: makes it again. Listeners live on, their address comes back. */
  async #mend(): Promise<void> {
    if (await this.#device.exists()) return;
    await this.#device.close();
    this.#device = await Device.open(this.#how);
    for (const known of this.#byKey.values()) await this.#add(known);
    this.#log.info({ interface: interfaceName, peers: this.#byKey.size }, "WireGuard interface made again");
  }
}

function cannotListen(address: string, port: number, cause: NodeJS.ErrnoException): IchorError {
  if (cause.code === "EADDRINUSE")
    return new IchorError(
      "already_exists",
      `port ${port} of ${address} is taken by a program that listens on all addresses of this host: give that its own (for the plane itself, 0.0.0.0 in the place of [::])`,
      { cause },
    );
  return new IchorError("unavailable", `cannot listen on ${formatHostPort(address, port)}: ${cause.message}`, {
    cause,
  });
}
