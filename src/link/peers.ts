import type { SiderolinkSpec } from "#gen/specs/specs_pb.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { PendingMachineKind } from "#kinds/machine/pending-machine.ts";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { codeOf, messageOf } from "#lib/errors.ts";
import { parseHostPort } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import type { Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { State } from "#store/state.ts";
import type { Endpoint, LinkEngine, PeerEvent } from "./engine.ts";
import { endpointText } from "./user/engine.ts";

/** Who owns, and holds, what the link writes. */
export const owner = "link";

interface Known {
  readonly kind: Kind<SiderolinkSpec>;
  readonly id: string;
  readonly key: string;
}

/** What is told to the rest of the link. */
export interface PeersOptions {
  readonly state: State;
  readonly engine: LinkEngine;
  readonly clock: Clock;
  readonly log: Logger;
  /** An address belongs to an admitted machine from now on. */
  readonly onAdmitted: (address: string, uuid: string) => void;
  /** A machine is forgotten: what is kept of it goes. Must be idempotent. */
  readonly onForgotten: (uuid: string) => Promise<void>;
}

/**
 * Keeps the peers of the engine equal to the links in the store, and tells the store which are connected. Knows, in memory, whose an
 * address is: the identity of everything that comes through the link.
 */
export class Peers {
  readonly #options: PeersOptions;
  readonly #state: State;
  readonly #byAddress = new Map<string, Known>();
  /** What the engine was told, by address, and the address that each key stands for now. */
  readonly #told = new Map<string, { readonly key: string; readonly virtual: string }>();
  readonly #addressOfKey = new Map<string, string>();
  readonly #tunnels = new Set<string>();
  /** Addresses that the engine says are up, with where they are. */
  readonly #up = new Map<string, string>();

  constructor(options: PeersOptions) {
    this.#options = options;
    this.#state = options.state.as(owner);
  }

  /** The UUID of the admitted machine with that address; undefined for pending ones and strangers. */
  machineAt(address: string): string | undefined {
    const known = this.#byAddress.get(address);
    return known?.kind === LinkKind ? known.id : undefined;
  }

  /** Whether an address belongs to a machine that is pending. */
  isPending(address: string): boolean {
    return this.#byAddress.get(address)?.kind === PendingMachineKind;
  }

  /** Whether a virtual address belongs to a peer. */
  allowsTunnel(virtual: string): boolean {
    return this.#tunnels.has(virtual);
  }

  /** Makes the peer of a record known to the engine. Another key at the same address is another boot: it is not up yet. */
  async ensure(spec: SiderolinkSpec, publicKey: Uint8Array): Promise<void> {
    const address = addressOf(spec);
    const before = this.#byAddress.get(address);
    if (before && before.key !== spec.nodePublicKey) this.#up.delete(address);
    const endpoint = parseEndpoint(spec);
    await this.#options.engine.setPeer({ publicKey, address, ...(endpoint ? { endpoint } : {}) });
    this.#untell(address);
    this.#told.set(address, { key: spec.nodePublicKey, virtual: spec.virtualAddrport });
    this.#addressOfKey.set(spec.nodePublicKey, address);
    if (spec.virtualAddrport) this.#tunnels.add(spec.virtualAddrport);
  }

  /** An address has one key and one virtual address, or none: those before mean nothing more. */
  #untell(address: string): void {
    const before = this.#told.get(address);
    if (!before) return;
    this.#told.delete(address);
    this.#tunnels.delete(before.virtual);
    if (this.#addressOfKey.get(before.key) === address) this.#addressOfKey.delete(before.key);
  }

  /** Follows the store and the engine until the signal aborts. Resolves when all that is stored is known to the engine. */
  async start(signal: AbortSignal): Promise<void> {
    void this.#report(signal);
    await Promise.all(
      [LinkKind, PendingMachineKind].map(
        (kind) => new Promise<void>((resolve) => void this.#follow(kind, signal, resolve)),
      ),
    );
  }

  async #follow(kind: Kind<SiderolinkSpec>, signal: AbortSignal, ready: () => void): Promise<void> {
    const { clock } = this.#options;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        for await (const event of this.#state.watch(kind, { from: "bootstrap", signal })) {
          if (event.kind === "bootstrapped") {
            attempt = 0;
            ready();
          } else if (event.kind === "destroyed") await this.#gone(kind, event.resource);
          else if (event.resource.metadata.phase === "tearingDown") await this.#leaving(kind, event.resource);
          else await this.#present(kind, event.resource);
        }
      } catch (error) {
        if (!signal.aborted) this.#options.log.warn({ error: messageOf(error) }, "watch of links failed");
      }
      if (!signal.aborted) await sleep(backoffDelay(attempt), clock, signal).catch(() => {});
    }
  }

  async #present(kind: Kind<SiderolinkSpec>, { metadata, spec }: Resource<SiderolinkSpec>): Promise<void> {
    const address = addressOf(spec);
    const before = this.#byAddress.get(address);
    // A pending record of a machine that was admitted meanwhile does not take its address back.
    if (before?.kind === LinkKind && kind === PendingMachineKind) return;
    try {
      await this.ensure(spec, Buffer.from(spec.nodePublicKey, "base64"));
    } catch (error) {
      // One record that no peer can be made of must not keep the others out.
      this.#options.log.warn({ link: metadata.id, error: messageOf(error) }, "link cannot be used");
      return;
    }
    this.#byAddress.set(address, { kind, id: metadata.id, key: spec.nodePublicKey });
    if (kind === LinkKind && (before?.kind !== LinkKind || before.id !== metadata.id))
      this.#options.onAdmitted(address, metadata.id);
    // It was up before this record was there: nobody will tell again.
    const endpoint = this.#up.get(address);
    if (endpoint !== undefined && !spec.connected) await this.#keepConnected(address, true, endpoint);
    // An earlier run of the plane left it as connected; this one has not heard of it yet.
    else if (endpoint === undefined && spec.connected && before === undefined)
      await this.#keepConnected(address, false, undefined);
  }

  /** What is being torn down goes once nobody but the link holds it. */
  async #leaving(kind: Kind<SiderolinkSpec>, resource: Resource<SiderolinkSpec>): Promise<void> {
    const { metadata } = resource;
    if (metadata.finalizers.some((name) => name !== owner)) return;
    await this.#gone(kind, resource);
    if (kind === LinkKind) await this.#options.onForgotten(metadata.id);
    await this.#state.removeFinalizer(kind.key(metadata.id), owner);
    // Nobody asked for the end of a pending record but we: nobody else destroys it.
    if (kind === PendingMachineKind) await ignore("not_found", this.#state.destroy(kind.key(metadata.id)));
  }

  async #gone(kind: Kind<SiderolinkSpec>, { metadata, spec }: Resource<SiderolinkSpec>): Promise<void> {
    const address = addressOf(spec);
    const known = this.#byAddress.get(address);
    if (known?.kind !== kind || known.id !== metadata.id) return;
    this.#byAddress.delete(address);
    this.#up.delete(address);
    // The same boot of a machine may be known by another record, with another address, by now.
    const stands = this.#addressOfKey.get(spec.nodePublicKey) ?? address;
    this.#untell(address);
    if (stands === address) await this.#options.engine.removePeer(Buffer.from(spec.nodePublicKey, "base64"));
  }

  /** One write for each real change. */
  async #report(signal: AbortSignal): Promise<void> {
    for await (const event of this.#options.engine.events(signal)) {
      try {
        await this.#reported(event);
      } catch (error) {
        this.#options.log.warn({ error: messageOf(error) }, "link state could not be kept");
      }
    }
  }

  async #reported(event: PeerEvent): Promise<void> {
    const { address } = event;
    if (event.kind === "down") {
      this.#up.delete(address);
      const known = this.#byAddress.get(address);
      await this.#keepConnected(address, false, undefined);
      // It called, was not admitted, and went: nothing of it is kept.
      if (known?.kind === PendingMachineKind) await ignore("not_found", this.#state.teardown(known.kind.key(known.id)));
      return;
    }
    const endpoint = endpointText(event.endpoint);
    this.#up.set(address, endpoint);
    await this.#keepConnected(address, true, endpoint);
  }

  async #keepConnected(address: string, connected: boolean, endpoint: string | undefined): Promise<void> {
    const known = this.#byAddress.get(address);
    if (!known) return;
    const edit = this.#state.update(
      known.kind,
      known.id,
      ({ spec }) => {
        if (spec.nodePublicKey !== known.key) return false;
        spec.connected = connected;
        if (endpoint !== undefined) spec.lastEndpoint = endpoint;
        return undefined;
      },
      { expectedPhase: "any" },
    );
    await ignore("not_found", edit);
  }
}

async function ignore(code: string, work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (codeOf(error) !== code) throw error;
  }
}

/** The bare address of a record. */
export function addressOf(spec: SiderolinkSpec): string {
  return spec.nodeSubnet.split("/")[0] ?? "";
}

function parseEndpoint(spec: SiderolinkSpec): Endpoint | undefined {
  if (spec.virtualAddrport) return { kind: "tunnel", id: spec.virtualAddrport };
  if (!spec.lastEndpoint || spec.lastEndpoint.startsWith("tunnel:")) return undefined;
  return { kind: "udp", ...parseHostPort(spec.lastEndpoint) };
}
