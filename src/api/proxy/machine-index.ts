import { type MachineStatusSpec, MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterMachineIdentityKind } from "#kinds/cluster/cluster-machine-identity.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { abortable } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { canonicalIP } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";
import { follow } from "./follow.ts";

/** A machine as the proxies see it. */
export interface IndexedMachine {
  /** UUID. */
  readonly id: string;
  /** SideroLink address, canonical. */
  readonly address: string;
  /** Empty for a machine that belongs to none. */
  readonly cluster: string;
  readonly controlPlane: boolean;
  /** It runs without a configuration: no client certificate helps. */
  readonly maintenance: boolean;
  /** The link is up. */
  readonly connected: boolean;
  /** What a person calls it: host name, else UUID. */
  readonly name: string;
  /** `v1.13.0`; empty while unknown. */
  readonly talosVersion: string;
}

interface Entry {
  machine?: IndexedMachine;
  statusNames: readonly string[];
  identityNames: readonly string[];
}

/**
 * All machines by every name they go by: UUID, host name, Kubernetes node name, SideroLink address, own addresses. Follows the store, so
 * a look-up costs the same in a fleet of any size. One is shared by all proxies.
 */
export class MachineIndex {
  readonly #entries = new Map<string, Entry>();
  readonly #names = new Map<string, Set<string>>();
  readonly #clusters = new Map<string, Set<string>>();
  readonly #lost = new Set<(machine: IndexedMachine) => void>();
  readonly #ready: Promise<unknown>;

  /** Follows the store until the signal aborts. */
  constructor(options: { state: State; clock: Clock; log: Logger; signal: AbortSignal }) {
    const statuses = Promise.withResolvers<void>();
    const identities = Promise.withResolvers<void>();
    this.#ready = Promise.all([statuses.promise, identities.promise]);
    void follow(
      MachineStatusKind,
      {
        put: ({ metadata, spec }) => this.#put(metadata.id, spec),
        remove: (id) => this.#put(id, undefined),
        ready: statuses.resolve,
      },
      options,
    );
    void follow(
      ClusterMachineIdentityKind,
      {
        put: ({ metadata, spec }) => this.#identify(metadata.id, [spec.nodename, ...spec.nodeIps]),
        remove: (id) => this.#identify(id, []),
        ready: identities.resolve,
      },
      options,
    );
  }

  /** Resolves when all that is in the store has been read once. */
  async ready(signal?: AbortSignal): Promise<void> {
    await abortable(this.#ready, signal);
  }

  get(id: string): IndexedMachine | undefined {
    return this.#entries.get(id)?.machine;
  }

  /** The machine behind a SideroLink address. */
  byAddress(address: string): IndexedMachine | undefined {
    for (const id of this.#names.get(nameKey(address)) ?? []) {
      const machine = this.get(id);
      if (machine && machine.address === nameKey(address)) return machine;
    }
    return undefined;
  }

  /** Control planes of a cluster that have left maintenance, those with a link first, else in the order of their ids. */
  controlPlanes(cluster: string): IndexedMachine[] {
    return [...(this.#clusters.get(cluster) ?? [])]
      .sort()
      .flatMap((id) => this.get(id) ?? [])
      .filter(({ controlPlane, maintenance }) => controlPlane && !maintenance)
      .sort((a, b) => Number(b.connected) - Number(a.connected));
  }

  /**
   * The one machine that goes by `name`, within `cluster` when given. Throws `not_found`, and `invalid_argument` when several do.
   */
  resolve(name: string, cluster?: string): IndexedMachine {
    const found = [...(this.#names.get(nameKey(name)) ?? [])]
      .flatMap((id) => this.get(id) ?? [])
      .filter((machine) => cluster === undefined || machine.cluster === cluster);
    const [first] = found;
    if (!first) {
      const where = cluster === undefined ? "" : ` in cluster "${cluster}"`;
      throw new IchorError("not_found", `no machine goes by "${name}"${where}`);
    }
    if (found.length > 1) {
      const who = found.slice(0, 5).map(({ id, cluster: of }) => (of ? `${id} (cluster "${of}")` : id));
      const more = found.length > 5 ? ` and ${found.length - 5} more` : "";
      throw new IchorError(
        "invalid_argument",
        `"${name}" means ${found.length} machines: ${who.join(", ")}${more}; name the cluster, or the machine by its UUID`,
      );
    }
    return first;
  }

  /** Calls `fn` when a machine loses its link, or goes; answers how to stop that. */
  onLost(fn: (machine: IndexedMachine) => void): () => void {
    this.#lost.add(fn);
    return () => void this.#lost.delete(fn);
  }

  #put(id: string, spec: MachineStatusSpec | undefined): void {
    const entry = this.#entry(id);
    const old = entry.machine;
    const machine = spec && read(id, spec);
    const names = machine && spec ? [id, machine.address, ...namesOf(spec)] : [];
    this.#rename(id, entry, names, entry.identityNames);
    entry.statusNames = names;
    if (machine) entry.machine = machine;
    else delete entry.machine;
    if (old?.cluster !== machine?.cluster) {
      if (old?.cluster) removeFrom(this.#clusters, old.cluster, id);
      if (machine?.cluster) addTo(this.#clusters, machine.cluster, id);
    }
    this.#sweep(id, entry);
    // A new address means a new peer: what was open to the old one is of no use.
    if (old?.connected && !(machine?.connected && machine.address === old.address)) {
      for (const fn of this.#lost) fn(old);
    }
  }

  #identify(id: string, names: readonly string[]): void {
    const entry = this.#entry(id);
    const keys = names.filter(Boolean).map(nameKey);
    this.#rename(id, entry, entry.statusNames, keys);
    entry.identityNames = keys;
    this.#sweep(id, entry);
  }

  #entry(id: string): Entry {
    let entry = this.#entries.get(id);
    if (!entry) {
      entry = { statusNames: [], identityNames: [] };
      this.#entries.set(id, entry);
    }
    return entry;
  }

  #sweep(id: string, entry: Entry): void {
    if (!entry.machine && entry.identityNames.length === 0) this.#entries.delete(id);
  }

  #rename(id: string, old: Entry, status: readonly string[], identity: readonly string[]): void {
    const next = new Set([...status, ...identity]);
    for (const name of [...old.statusNames, ...old.identityNames]) {
      if (!next.has(name)) removeFrom(this.#names, name, id);
    }
    for (const name of next) addTo(this.#names, name, id);
  }
}

function read(id: string, spec: MachineStatusSpec): IndexedMachine {
  return {
    id,
    address: nameKey(spec.managementAddress),
    cluster: spec.cluster,
    controlPlane: spec.role === MachineStatusSpec_Role.CONTROL_PLANE,
    maintenance: spec.maintenance || spec.cluster === "",
    connected: spec.connected,
    name: spec.network?.hostname || id,
    talosVersion: spec.talosVersion,
  };
}

function namesOf({ network }: MachineStatusSpec): string[] {
  // Addresses carry their prefix length; link-local ones name nobody.
  const addresses = (network?.addresses ?? []).map((text) => text.replace(/\/.*/, ""));
  return [network?.hostname ?? "", ...addresses]
    .filter(Boolean)
    .map(nameKey)
    .filter((name) => !/^(fe80:|169\.254\.|127\.|::1$)/.test(name));
}

/** One form for each name: addresses canonical and without brackets, host names in lower case. */
function nameKey(name: string): string {
  const plain = name.trim().replace(/^\[(.*)\]$/, "$1");
  try {
    return canonicalIP(plain);
  } catch {
    return plain.toLowerCase();
  }
}

function addTo(map: Map<string, Set<string>>, key: string, id: string): void {
  const set = map.get(key);
  if (set) set.add(id);
  else map.set(key, new Set([id]));
}

function removeFrom(map: Map<string, Set<string>>, key: string, id: string): void {
  const set = map.get(key);
  set?.delete(id);
  if (set?.size === 0) map.delete(key);
}
