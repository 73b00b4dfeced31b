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
import { KeyedMutex } from "./keyed-mutex.ts";
import { endpointText, silence } from "./user/engine.ts";

/** Who owns, and holds, what the link writes. */
export const owner = "link";

interface Known {
  readonly kind: Kind<SiderolinkSpec>;
  readonly id: string;
  readonly key: string;
  readonly spec: SiderolinkSpec;
  readonly created: number;
  readonly version: number;
}

/** An address: the admitted machine, and a later boot of it that has no unique token yet. Who of them has it is what the engine was told. */
interface Place {
  link?: Known;
  pending?: Known;
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
  readonly #places = new Map<string, Place>();
  /** What happens to an address happens one after the other. */
  readonly #mutex = new KeyedMutex();
  #stopped: AbortSignal = AbortSignal.abort();
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
    const known = this.#holder(address);
    return known?.kind === LinkKind ? known.id : undefined;
  }

  /** Whether an address belongs to a machine that is pending. */
  isPending(address: string): boolean {
    return this.#holder(address)?.kind === PendingMachineKind;
  }

  /** Whether a virtual address belongs to a peer. */
  allowsTunnel(virtual: string): boolean {
    return this.#tunnels.has(virtual);
  }

  /**
   * Makes a record that was just written known, before its event comes: who is told an address is heard at it. Throws `invalid_argument`
   * when no peer can be made of it.
   */
  take(kind: Kind<SiderolinkSpec>, record: Resource<SiderolinkSpec>): Promise<void> {
    return this.#mutex.run(addressOf(record.spec), () => this.#present(kind, record));
  }

  /** Makes a peer known to the engine. Another key at the same address is another boot: it is not up yet. */
  async #ensure(spec: SiderolinkSpec): Promise<void> {
    const address = addressOf(spec);
    const publicKey = Buffer.from(spec.nodePublicKey, "base64");
    const key = spec.nodePublicKey;
    const before = this.#holder(address);
    const endpoint = parseEndpoint(spec);
    await this.#options.engine.setPeer({ publicKey, address, ...(endpoint ? { endpoint } : {}) });
    this.#untell(address, key);
    this.#told.set(address, { key, virtual: spec.virtualAddrport });
    this.#addressOfKey.set(key, address);
    if (spec.virtualAddrport) this.#tunnels.add(spec.virtualAddrport);
    if (before && before.key !== key) await this.#keepConnected(before, false, undefined);
    // The admitted boot itself is back: whoever came after it as pending was another.
    const place = this.#places.get(address);
    if (place?.link?.key === key && place.pending) await this.#end(place.pending);
  }

  #holder(address: string): Known | undefined {
    const { link, pending } = this.#places.get(address) ?? {};
    const key = this.#told.get(address)?.key;
    return [link, pending].find((known) => known !== undefined && known.key === key);
  }

  /** An address has one key and one virtual address, or none: those before mean nothing more. */
  #untell(address: string, next?: string): void {
    const before = this.#told.get(address);
    if (!before) return;
    if (before.key !== next) this.#up.delete(address);
    this.#told.delete(address);
    this.#tunnels.delete(before.virtual);
    if (this.#addressOfKey.get(before.key) === address) this.#addressOfKey.delete(before.key);
  }

  /** Follows the store and the engine until the signal aborts. Resolves when all that is stored is known to the engine. */
  async start(signal: AbortSignal): Promise<void> {
    this.#stopped = signal;
    void this.#report(signal);
    // Pending ones last: they are later boots.
    for (const kind of [LinkKind, PendingMachineKind])
      await new Promise<void>((resolve) => void this.#follow(kind, signal, resolve));
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
          else await this.#seen(kind, event.resource);
        }
      } catch (error) {
        if (!signal.aborted) this.#options.log.warn({ error: messageOf(error) }, "watch of links failed");
      }
      if (!signal.aborted) await sleep(backoffDelay(attempt), clock, signal).catch(() => {});
    }
  }

  async #seen(kind: Kind<SiderolinkSpec>, record: Resource<SiderolinkSpec>): Promise<void> {
    try {
      await this.take(kind, record);
    } catch (error) {
      if (codeOf(error) !== "invalid_argument") throw error;
      // One record that no peer can be made of must not keep the others out.
      this.#options.log.warn({ link: record.metadata.id, error: messageOf(error) }, "link cannot be used");
    }
  }

  async #present(kind: Kind<SiderolinkSpec>, { metadata, spec }: Resource<SiderolinkSpec>): Promise<void> {
    const address = addressOf(spec);
    const { id, created, version } = metadata;
    const known: Known = { kind, id, key: spec.nodePublicKey, spec, created, version };
    const place = this.#places.get(address) ?? {};
    const which = kind === LinkKind ? "link" : "pending";
    const former = place[which];
    // An event that comes after what it tells was overtaken.
    if (former?.id === id && (created < former.created || (created === former.created && version < former.version)))
      return;
    // It was admitted meanwhile, or booted again: what it was for is done.
    const isOlder = former !== undefined && former.id !== known.id && former.created > known.created;
    if (which === "pending" && (isOlder || place.link?.key === known.key)) return this.#end(known);
    if (former?.id === known.id && former.key === known.key && this.#told.get(address)?.key !== known.key) {
      // The record changed, not the boot, and a later boot has the address.
      place[which] = known;
      return;
    }
    const before = this.#holder(address);
    await this.#ensure(spec);
    const earlier = place.pending;
    place[which] = known;
    this.#places.set(address, place);
    if (earlier && earlier.id !== known.id) {
      if (which === "link") delete place.pending;
      await this.#end(earlier);
    }
    if (kind === LinkKind && (before?.kind !== LinkKind || before.id !== metadata.id))
      this.#options.onAdmitted(address, metadata.id);
    // It was up before this record was there: nobody will tell again.
    const endpoint = this.#up.get(address);
    if (endpoint !== undefined && !spec.connected) await this.#keepConnected(known, true, endpoint);
    if (endpoint === undefined && former?.key !== known.key) this.#expect(address, known);
  }

  /** Whoever does not come up is down: the engine tells only of those who were up since it started. */
  #expect(address: string, known: Known): void {
    const signal = this.#stopped;
    this.#options.clock.after(silence, () => {
      if (signal.aborted || this.#up.has(address) || this.#holder(address)?.key !== known.key) return;
      this.#down(address).catch((error: unknown) =>
        this.#options.log.warn({ error: messageOf(error) }, "link state could not be kept"),
      );
    });
  }

  /** Nobody asked for a pending record but we. */
  #end({ id }: Known): Promise<void> {
    return ignore("not_found", this.#state.teardown(PendingMachineKind.key(id)));
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

  #gone(kind: Kind<SiderolinkSpec>, record: Resource<SiderolinkSpec>): Promise<void> {
    return this.#mutex.run(addressOf(record.spec), () => this.#drop(kind, record));
  }

  async #drop(kind: Kind<SiderolinkSpec>, { metadata, spec }: Resource<SiderolinkSpec>): Promise<void> {
    const address = addressOf(spec);
    const place = this.#places.get(address);
    const which = kind === LinkKind ? "link" : "pending";
    const known = place?.[which];
    if (!place || known?.id !== metadata.id || known.created !== metadata.created) return;
    delete place[which];
    const other = place.link ?? place.pending;
    if (!other) this.#places.delete(address);
    // Another boot has the address, or the same one by another record.
    if (this.#told.get(address)?.key !== known.key || other?.key === known.key) return;
    // The same boot may have another address by now.
    const stands = this.#addressOfKey.get(known.key) ?? address;
    this.#untell(address);
    if (stands === address) await this.#options.engine.removePeer(Buffer.from(known.key, "base64"));
    // Whoever said to be this machine is gone: it is heard again.
    if (place.link) await this.#ensure(place.link.spec);
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
    if (event.kind === "down") return this.#down(address);
    const endpoint = endpointText(event.endpoint);
    this.#up.set(address, endpoint);
    const known = this.#holder(address);
    if (known) await this.#keepConnected(known, true, endpoint);
  }

  async #down(address: string): Promise<void> {
    this.#up.delete(address);
    const known = this.#holder(address);
    if (!known) return;
    await this.#keepConnected(known, false, undefined);
    // It called, was not admitted, and went: nothing of it is kept.
    if (known.kind === PendingMachineKind) await this.#end(known);
  }

  async #keepConnected({ kind, id, key }: Known, connected: boolean, endpoint: string | undefined): Promise<void> {
    const edit = this.#state.update(
      kind,
      id,
      ({ spec }) => {
        if (spec.nodePublicKey !== key) return false;
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
