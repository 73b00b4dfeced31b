import type { SiderolinkSpec } from "#gen/specs/specs_pb.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { PendingMachineKind } from "#kinds/machine/pending-machine.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import { parseHostPort } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import type { Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { State } from "#store/state.ts";
import type { Endpoint, LinkEngine } from "./engine.ts";
import { endpointText } from "./user/engine.ts";

interface Known {
  readonly kind: Kind<SiderolinkSpec>;
  readonly id: string;
  readonly key: string;
}

/**
 * Keeps the peers of the engine equal to the links in the store, and tells the store which are connected. Knows, in memory, whose an
 * address is: the identity of everything that comes through the link.
 */
export class Peers {
  readonly #state: State;
  readonly #engine: LinkEngine;
  readonly #log: Logger;
  readonly #byAddress = new Map<string, Known>();
  readonly #tunnels = new Set<string>();

  constructor(state: State, engine: LinkEngine, log: Logger) {
    this.#state = state;
    this.#engine = engine;
    this.#log = log;
  }

  /** The UUID of the admitted machine with that address; undefined for pending ones and strangers. */
  machineAt(address: string): string | undefined {
    const known = this.#byAddress.get(address);
    return known?.kind === LinkKind ? known.id : undefined;
  }

  /** Whether a virtual address belongs to a peer. */
  allowsTunnel(virtual: string): boolean {
    return this.#tunnels.has(virtual);
  }

  /** Makes the peer of a record known to the engine. */
  async ensure(spec: SiderolinkSpec, publicKey: Uint8Array): Promise<void> {
    const address = addressOf(spec);
    if (spec.virtualAddrport) this.#tunnels.add(spec.virtualAddrport);
    const endpoint = parseEndpoint(spec);
    await this.#engine.setPeer({ publicKey, address, ...(endpoint ? { endpoint } : {}) });
  }

  /** Follows the store and the engine until the signal aborts. Resolves when all that is stored is known to the engine. */
  async start(signal: AbortSignal): Promise<void> {
    const ready = [LinkKind, PendingMachineKind].map(
      (kind) => new Promise<void>((resolve) => void this.#follow(kind, signal, resolve)),
    );
    void this.#report(signal);
    await Promise.all(ready);
  }

  async #follow(kind: Kind<SiderolinkSpec>, signal: AbortSignal, ready: () => void): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const event of this.#state.watch(kind, { from: "bootstrap", signal })) {
          if (event.kind === "bootstrapped") ready();
          else if (event.kind === "destroyed") await this.#gone(kind, event.resource);
          else await this.#present(kind, event.resource);
        }
      } catch (error) {
        this.#log.warn({ error: messageOf(error) }, "watch of links failed");
      }
    }
  }

  async #present(kind: Kind<SiderolinkSpec>, { metadata, spec }: Resource<SiderolinkSpec>): Promise<void> {
    const address = addressOf(spec);
    const known = this.#byAddress.get(address);
    // A pending record of a machine that was admitted meanwhile does not take its address back.
    if (known?.kind === LinkKind && kind === PendingMachineKind && known.key === spec.nodePublicKey) return;
    this.#byAddress.set(address, { kind, id: metadata.id, key: spec.nodePublicKey });
    await this.ensure(spec, Buffer.from(spec.nodePublicKey, "base64"));
  }

  async #gone(kind: Kind<SiderolinkSpec>, { metadata, spec }: Resource<SiderolinkSpec>): Promise<void> {
    const address = addressOf(spec);
    const known = this.#byAddress.get(address);
    if (known?.kind !== kind || known.id !== metadata.id) return;
    this.#byAddress.delete(address);
    this.#tunnels.delete(spec.virtualAddrport);
    await this.#engine.removePeer(Buffer.from(spec.nodePublicKey, "base64"));
  }

  /** One write for each real change. */
  async #report(signal: AbortSignal): Promise<void> {
    for await (const event of this.#engine.events(signal)) {
      const known = this.#byAddress.get(event.address);
      if (!known) continue;
      try {
        await this.#state.update(
          known.kind,
          known.id,
          ({ spec }) => {
            if (spec.nodePublicKey !== known.key) return false;
            spec.connected = event.kind !== "down";
            if (event.kind !== "down") spec.lastEndpoint = endpointText(event.endpoint);
            return undefined;
          },
          { expectedPhase: "any" },
        );
      } catch (error) {
        if (!(error instanceof IchorError && error.code === "not_found"))
          this.#log.warn({ error: messageOf(error) }, "link state could not be kept");
      }
    }
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
