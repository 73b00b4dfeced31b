import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ProvisionRequest, ProvisionResponse } from "#gen/sidero/link/link_pb.ts";
import { ProvisionResponseSchema } from "#gen/sidero/link/link_pb.ts";
import type { SiderolinkSpec } from "#gen/specs/specs_pb.ts";
import { pending as marks } from "#kinds/labels.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { GRPCTunnelConfigKind } from "#kinds/machine/grpc-tunnel-config.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { JoinTokenUsageKind } from "#kinds/machine/join-token-usage.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { NodeUniqueTokenKind } from "#kinds/machine/node-unique-token.ts";
import { PendingMachineKind } from "#kinds/machine/pending-machine.ts";
import { PendingMachineStatusKind } from "#kinds/machine/pending-machine-status.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { Draft, State } from "#store/state.ts";
import { isUsable } from "#wireguard/keys.ts";
import { planeAddress, randomMachineAddress, randomVirtualAddress } from "./address.ts";
import { isSignedBy, parseJoinToken, providerKey } from "./join-token.ts";
import { KeyedMutex } from "./keyed-mutex.ts";
import { owner, type Peers } from "./peers.ts";
import { parseUniqueToken, sameHardware, sameToken } from "./unique-token.ts";

/** Provision calls worked on at once; more are told to come again. */
const mostInFlight = 512;

/** What provisioning runs with. */
export interface ProvisionerOptions {
  readonly state: State;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly log: Logger;
  /** The plane's WireGuard public key, base64. */
  readonly publicKey: string;
  /** Advertised WireGuard endpoints, `host:port`, the preferred first. */
  readonly endpoints: () => readonly string[];
}

type LinkRecord = Kind<SiderolinkSpec>;

/** Decides who may join, and as what (protocols.md 2.8, mode `legacyAllowed`). */
export class Provisioner {
  readonly #options: ProvisionerOptions;
  readonly #state: State;
  readonly #mutex = new KeyedMutex();
  #inFlight = 0;

  constructor(options: ProvisionerOptions) {
    this.#options = options;
    this.#state = options.state.as(owner);
  }

  async provision(request: ProvisionRequest): Promise<ProvisionResponse> {
    const publicKey = Buffer.from(request.nodePublicKey, "base64");
    if (!isUsable(publicKey) || publicKey.toString("base64") !== request.nodePublicKey) {
      throw new IchorError("invalid_argument", "node_public_key is not a WireGuard key: 32 bytes in base64");
    }
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(request.nodeUuid))
      throw new IchorError("invalid_argument", "node_uuid is not a UUID");
    if (this.#inFlight >= mostInFlight)
      throw new IchorError("resource_exhausted", "too many machines join at once: try again");
    this.#inFlight++;
    try {
      return await this.#mutex.run(request.nodeUuid.toLowerCase(), () => this.#decide(request, publicKey));
    } finally {
      this.#inFlight--;
    }
  }

  async #decide(request: ProvisionRequest, publicKey: Uint8Array): Promise<ProvisionResponse> {
    const uuid = request.nodeUuid.toLowerCase();
    const link = await this.#state.get(LinkKind, uuid);
    if (link?.metadata.phase === "tearingDown")
      throw new IchorError("already_exists", "this machine is being forgotten: it may join when that is done");
    const joinToken = await this.#validJoinToken(request.joinToken ?? "");
    const refuse = (): never => {
      throw new IchorError("permission_denied", "unauthorized");
    };
    if (isOld(request.talosVersion)) {
      // Before 1.6 machines know no unique tokens: the join token alone decides.
      if (joinToken === undefined || (await this.#state.get(NodeUniqueTokenKind, uuid))) refuse();
      return this.#admit(request, publicKey, joinToken);
    }
    if (!request.nodeUniqueToken) {
      if (joinToken === undefined) refuse();
      return this.#pend(request, publicKey, false);
    }
    const sent = parseUniqueToken(request.nodeUniqueToken);
    const storedText = (await this.#state.get(NodeUniqueTokenKind, uuid))?.spec.token;
    if (!storedText) {
      if (joinToken === undefined) refuse();
      await this.#keepToken(uuid, request.nodeUniqueToken);
      return this.#admit(request, publicKey, joinToken);
    }
    const stored = parseUniqueToken(storedText);
    if (sameToken(stored, sent)) return this.#admit(request, publicKey, joinToken);
    if (sameHardware(stored, sent)) {
      if (link && Object.hasOwn(link.metadata.annotations, marks.installedAnnotation)) {
        throw new IchorError(
          "permission_denied",
          "unauthorized: this machine had another unique token when Talos was installed on it",
        );
      }
      await this.#keepToken(uuid, request.nodeUniqueToken);
      return this.#admit(request, publicKey, joinToken);
    }
    if (joinToken === undefined) refuse();
    return this.#pend(request, publicKey, true);
  }

  /** The id of the token, or undefined when it lets nobody in. */
  async #validJoinToken(text: string): Promise<string | undefined> {
    if (text === "") return undefined;
    const token = parseJoinToken(text);
    if (token.kind === "plain") return (await this.#isActive(token.text)) ? token.text : undefined;
    if (token.version === 2 && token.extra[providerKey] !== undefined)
      throw new IchorError("unimplemented", "machines of infrastructure providers cannot join yet");
    const id = (await this.#state.get(DefaultJoinTokenKind, "default"))?.spec.tokenId;
    return id && (await this.#isActive(id)) && isSignedBy(token, id) ? id : undefined;
  }

  async #isActive(id: string): Promise<boolean> {
    const token = await this.#state.get(JoinTokenKind, id);
    if (!token || token.spec.revoked || token.metadata.phase !== "running") return false;
    const { expirationTime } = token.spec;
    return !expirationTime || timestampDate(expirationTime).getTime() > this.#options.clock.now();
  }

  async #keepToken(uuid: string, token: string): Promise<void> {
    await this.#state.modify(NodeUniqueTokenKind, uuid, ({ spec }) => {
      spec.token = token;
    });
  }

  async #admit(
    request: ProvisionRequest,
    publicKey: Uint8Array,
    joinToken: string | undefined,
  ): Promise<ProvisionResponse> {
    const uuid = request.nodeUuid.toLowerCase();
    const id = pendingId(publicKey);
    const pending = await this.#state.get(PendingMachineKind, id);
    const installed = (await this.#state.get(PendingMachineStatusKind, id))?.spec.talosInstalled ?? false;
    const record = await this.#record(LinkKind, uuid, request, publicKey, pending, (draft) => {
      draft.finalizers.add(owner);
      if (installed) draft.annotations[marks.installedAnnotation] = "";
    });
    if (joinToken !== undefined) {
      await this.#state.modify(JoinTokenUsageKind, uuid, (draft) => {
        draft.spec.tokenId = joinToken;
      });
    }
    const answer = await this.#answer(LinkKind, record);
    // Its record as a pending machine has done its work.
    if (pending) await this.#state.teardown(PendingMachineKind.key(id)).catch(() => {});
    return answer;
  }

  async #pend(request: ProvisionRequest, publicKey: Uint8Array, conflict: boolean): Promise<ProvisionResponse> {
    const link = conflict ? undefined : await this.#state.get(LinkKind, request.nodeUuid.toLowerCase());
    const record = await this.#record(PendingMachineKind, pendingId(publicKey), request, publicKey, link, (draft) => {
      draft.labels[marks.uuidLabel] = request.nodeUuid.toLowerCase();
      if (conflict) draft.annotations[marks.conflictAnnotation] = "";
    });
    return this.#answer(PendingMachineKind, record);
  }

  /** Writes the record; a known machine keeps its address, and with the same key its virtual address. */
  async #record(
    kind: LinkRecord,
    id: string,
    request: ProvisionRequest,
    publicKey: Uint8Array,
    other: Resource<SiderolinkSpec> | undefined,
    extra: (draft: Draft<SiderolinkSpec>) => void,
  ): Promise<Resource<SiderolinkSpec>> {
    const forced = await this.#state.get(GRPCTunnelConfigKind, request.nodeUuid.toLowerCase());
    const tunnel = forced?.spec.enabled ?? request.wireguardOverGrpc ?? false;
    const key = Buffer.from(publicKey).toString("base64");
    return this.#state.modify(kind, id, (draft) => {
      const { spec } = draft;
      const known = spec.nodeSubnet ? spec : other?.spec;
      const sameKey = known?.nodePublicKey === key;
      spec.nodeSubnet = known?.nodeSubnet || `${randomMachineAddress()}/64`;
      spec.virtualAddrport = tunnel ? (sameKey && known?.virtualAddrport) || randomVirtualAddress() : "";
      // With the same key its tunnel goes on: what is known of it comes along.
      spec.connected = sameKey && (known?.connected ?? false);
      if (sameKey && known) spec.lastEndpoint = known.lastEndpoint;
      spec.nodePublicKey = key;
      extra(draft);
    });
  }

  async #answer(kind: LinkRecord, record: Resource<SiderolinkSpec>): Promise<ProvisionResponse> {
    const { spec } = record;
    await this.#options.peers.take(kind, record);
    const endpoints = spec.virtualAddrport ? [spec.virtualAddrport] : preferredLast(this.#options.endpoints());
    return create(ProvisionResponseSchema, {
      serverEndpoint: endpoints,
      serverPublicKey: this.#options.publicKey,
      nodeAddressPrefix: spec.nodeSubnet,
      serverAddress: planeAddress,
      grpcPeerAddrPort: spec.virtualAddrport,
    });
  }
}

/** The id of a pending machine. Keys in base64 hold slashes, which ids may. */
export function pendingId(publicKey: Uint8Array): string {
  return Buffer.from(publicKey).toString("base64");
}

/** On the wire the preferred endpoint is last and the former last one first (trap 2). */
export function preferredLast(endpoints: readonly string[]): string[] {
  if (endpoints.length < 2) return [...endpoints];
  return [endpoints.at(-1)!, ...endpoints.slice(1, -1), endpoints[0]!];
}

function isOld(version: string | undefined): boolean {
  const match = /^v?(\d+)\.(\d+)/.exec(version ?? "v1.5.0");
  return !match || Number(match[1]) < 1 || (Number(match[1]) === 1 && Number(match[2]) < 6);
}
