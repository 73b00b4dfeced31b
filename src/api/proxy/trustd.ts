import "reflect-metadata";
import { createHash, timingSafeEqual } from "node:crypto";
import { createSecureServer } from "node:http2";
import type { Duplex } from "node:stream";
import { ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Pkcs10CertificateRequest, SubjectAlternativeNameExtension } from "@peculiar/x509";
import { SecurityService } from "#gen/securityapi/securityapi_pb.ts";
import { withAuthority } from "#lib/authority.ts";
import type { Clock } from "#lib/clock.ts";
import { codeOf, IchorError, messageOf } from "#lib/errors.ts";
import { canonicalIP } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import { survivable } from "#lib/tls-over-stream.ts";
import type { State } from "#store/state.ts";
import { type CertKey, issue, opensslKey, signServerRequest } from "#talos/pki.ts";
import { statusOf } from "./grpc-status.ts";
import { Issued, issuedLifetime } from "./issued.ts";
import type { Accepted, Listen } from "./listen.ts";
import type { IndexedMachine, MachineIndex } from "./machine-index.ts";

/** Where workers look for trustd. */
export const trustdPort = 50_001;
const handshakeTimeout = 10_000;
/** A machine asks once and closes; whoever keeps silent is let go. */
const idleTimeout = 60_000;
/** Requests are a few hundred bytes. */
const largestRequest = 64 * 1024;
/** Connections that one machine may have at a time. */
const mostConnections = 8;

/** What trustd is made with. */
export interface TrustdOptions {
  readonly listen: Listen;
  readonly state: State;
  /** The plane's SideroLink address: what machines dial, so what the certificate must be for. */
  readonly address: string;
  readonly machines: MachineIndex;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What trustd makes of the secrets of a cluster. */
interface Authority {
  readonly own: CertKey;
  /** SHA-256 of the token that members show. */
  readonly token: Buffer;
  /** All CAs that members accept, PEM. */
  readonly accepted: Buffer;
  readonly sign: (request: string) => Promise<string>;
}

/**
 * Serves workers the certificate of their apid, as trustd of a control plane does (protocols.md 5.11): the cluster is that of the
 * machine behind the source address. Answers how to stop.
 */
export async function startTrustd(options: TrustdOptions): Promise<{ close(): Promise<void> }> {
  const { listen, state, address, machines, clock, log } = options;
  const authorities = new Issued<Authority>(state, clock, async ({ os, trustdToken }, spec) => {
    const extra = spec.extraCerts?.os?.crt;
    return {
      own: await issue(os, { usage: "server", ttl: issuedLifetime, ips: [address] }, clock),
      token: digest(trustdToken),
      accepted: Buffer.from([os.crt, ...(extra?.length ? [Buffer.from(extra).toString()] : [])].join("")),
      sign: (request) => signServerRequest(os, request, clock),
    };
  });

  const certificate = async (
    peer: IndexedMachine,
    { token, accepted, sign }: Authority,
    csr: Uint8Array,
    shown: string,
  ) => {
    if (!timingSafeEqual(digest(shown), token))
      throw new IchorError("unauthenticated", "the token is not that of the cluster");
    const request = Buffer.from(csr).toString();
    checkAddresses(request, peer, address, machines);
    const crt = Buffer.from(await sign(request));
    log.info({ machine: peer.id, cluster: peer.cluster }, "signed the apid certificate of a machine");
    return { ca: accepted, crt };
  };

  const routesFor = (peer: IndexedMachine, authority: Authority) => (router: ConnectRouter) =>
    router.service(SecurityService, {
      async certificate({ csr }, { requestHeader }) {
        try {
          return await certificate(peer, authority, csr, requestHeader.get("token") ?? "");
        } catch (error) {
          const facts = { machine: peer.id, cluster: peer.cluster, code: codeOf(error) };
          log.info({ ...facts, error: messageOf(error) }, "refused a certificate");
          const { code, message } = statusOf(error);
          throw new ConnectError(message, code);
        }
      },
    });

  const open = new Map<string, Set<Duplex>>();
  const admit = async ({ stream, remoteAddress }: Accepted) => {
    stream.on("error", () => {});
    const mine = open.get(remoteAddress) ?? new Set();
    if (mine.size >= mostConnections)
      throw new IchorError("resource_exhausted", "the machine has too many connections");
    open.set(remoteAddress, mine.add(stream));
    stream.once("close", () => {
      mine.delete(stream);
      if (mine.size === 0) open.delete(remoteAddress);
    });
    await machines.ready();
    const peer = machines.byAddress(remoteAddress);
    if (!peer?.cluster) throw new IchorError("permission_denied", "no machine of a cluster has that address");
    const authority = await authorities.get(peer.cluster);
    serve(stream, authority.own, routesFor(peer, authority));
  };

  const listener = await listen(trustdPort, (accepted) => {
    admit(accepted).catch((error) => {
      log.info({ address: accepted.remoteAddress, error: messageOf(error) }, "refused a connection to trustd");
      accepted.stream.destroy();
    });
  });
  return {
    async close() {
      await listener.close();
      for (const streams of open.values()) for (const stream of streams) stream.destroy();
    },
  };
}

/** A server for one connection only, so that machine and cluster need no look-up by socket. Machines come here about twice a day. */
function serve(stream: Duplex, own: CertKey, routes: (router: ConnectRouter) => void): void {
  const handler = connectNodeAdapter({
    routes,
    readMaxBytes: largestRequest,
    connect: false,
    grpcWeb: false,
  });
  const server = createSecureServer(
    {
      cert: own.crt,
      key: opensslKey(own.key),
      minVersion: "TLSv1.3",
      ALPNProtocols: ["h2"],
      handshakeTimeout,
      settings: { maxConcurrentStreams: 8 },
    },
    withAuthority(handler),
  );
  server.on("session", (session) => {
    session.setTimeout(idleTimeout, () => session.destroy());
    session.on("error", () => {});
  });
  server.on("secureConnection", (socket) => {
    survivable(socket);
    socket.allowHalfOpen = false;
    socket.once("close", () => stream.destroy());
  });
  server.on("tlsClientError", () => stream.destroy());
  server.on("unknownProtocol", () => stream.destroy());
  server.emit("connection", stream);
}

/** A member may not become another machine, nor the plane: addresses of the link are given out by the plane alone. */
function checkAddresses(request: string, peer: IndexedMachine, plane: string, machines: MachineIndex): void {
  let addresses: string[];
  try {
    const names = new Pkcs10CertificateRequest(request).extensions.flatMap((extension) =>
      extension instanceof SubjectAlternativeNameExtension ? extension.names.items : [],
    );
    addresses = names.filter(({ type }) => type === "ip").map(({ value }) => canonicalIP(value));
  } catch (cause) {
    throw new IchorError("invalid_argument", "the certificate request cannot be read", { cause });
  }
  for (const address of addresses) {
    const owner = machines.byAddress(address);
    if (address === plane || (owner && owner.id !== peer.id))
      throw new IchorError("permission_denied", `${address} belongs to another machine of the link`);
  }
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
