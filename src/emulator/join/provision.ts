import { rootCertificates } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { type GrpcTarget, grpcTo } from "#emulator/grpc.ts";
import { ProvisionService } from "#gen/sidero/link/link_pb.ts";
import { IchorError } from "#lib/errors.ts";
import type { JoinTarget } from "./arguments.ts";
import type { JoinIdentity } from "./joiner.ts";

/** What the plane answered. */
export interface Provisioned {
  /** In order of preference. */
  readonly endpoints: readonly string[];
  readonly serverKey: Uint8Array;
  /** The machine's address, bare. */
  readonly address: string;
  readonly serverAddress: string;
  /** `[v6]:port` when WireGuard goes through a gRPC stream, else "". */
  readonly tunnelAddress: string;
}

const timeout = 30_000;

/** How to reach the plane's machine API. */
export function machineApi(target: JoinTarget, trustedRoots: readonly string[]): GrpcTarget {
  return {
    authority: target.authority,
    tls: target.tls,
    ...(trustedRoots.length > 0 ? { ca: [...rootCertificates, ...trustedRoots] } : {}),
  };
}

/** Calls Provision (protocols.md 2). Throws a ConnectError, or `invalid_argument` for an answer that makes no sense. */
export async function provision(options: {
  readonly target: JoinTarget;
  readonly trustedRoots: readonly string[];
  readonly identity: JoinIdentity;
  readonly publicKey: Uint8Array;
  readonly signal: AbortSignal;
}): Promise<Provisioned> {
  const { target, identity, signal } = options;
  const client = createClient(ProvisionService, grpcTo({ ...machineApi(target, options.trustedRoots), idle: 1000 }));
  const answer = await client.provision(
    {
      nodeUuid: identity.uuid,
      nodePublicKey: Buffer.from(options.publicKey).toString("base64"),
      joinToken: target.token,
      nodeUniqueToken: identity.uniqueToken,
      talosVersion: identity.talosVersion,
      wireguardOverGrpc: target.tunnel ? true : undefined,
    },
    { signal, timeoutMs: timeout },
  );
  const serverKey = Buffer.from(answer.serverPublicKey, "base64");
  if (serverKey.length !== 32) throw new IchorError("invalid_argument", "the plane's public key is malformed");
  if (answer.serverEndpoint.length === 0) throw new IchorError("invalid_argument", "the plane answered no endpoint");
  const [address = ""] = answer.nodeAddressPrefix.split("/");
  return {
    endpoints: preferredFirst(answer.serverEndpoint),
    serverKey,
    address,
    serverAddress: answer.serverAddress,
    tunnelAddress: answer.grpcPeerAddrPort,
  };
}

/** Undoes the exchange of first and last that servers make for old clients (protocols.md 2.3). */
export function preferredFirst(endpoints: readonly string[]): string[] {
  const list = [...endpoints];
  const last = list.length - 1;
  if (last > 0) [list[0], list[last]] = [list[last]!, list[0]!];
  return list;
}
