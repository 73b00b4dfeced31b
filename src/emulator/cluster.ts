import type { Clock } from "#lib/clock.ts";
import type { Boot } from "./boot.ts";
import type { ConfigView } from "./config/view.ts";
import { Etcd, type EtcdMember } from "./etcd.ts";
import { KubeObjects, type SavedObjects } from "./kubeapi/objects.ts";
import { RealControlPlane, type RealOptions } from "./kubereal/control-plane.ts";

/** A cluster as it lives in its machines: etcd, the Kubernetes objects, who is there. Found by the id in the configurations. */
export class Cluster {
  readonly id: string;
  readonly name: string;
  readonly etcd: Etcd;
  readonly objects: KubeObjects;
  /** The real API server and etcd; undefined where the built-in API serves `objects`. */
  readonly real: RealControlPlane | undefined;
  readonly #peers = new Set<Boot>();
  readonly #listeners = new Set<() => void>();
  readonly #dirty: () => void;

  constructor(id: string, name: string, clock: Clock, dirty: () => void, real?: RealOptions) {
    this.id = id;
    this.name = name;
    this.#dirty = dirty;
    this.etcd = new Etcd(() => this.touch());
    this.objects = new KubeObjects(clock, () => {
      this.etcd.wrote();
      dirty();
    });
    this.real = real && new RealControlPlane(id, real);
  }
  get peers(): readonly Boot[] {
    return [...this.#peers];
  }
  /** Adds a running machine until the answer is called. */
  enter(peer: Boot): () => void {
    this.#peers.add(peer);
    this.#tellPeers();
    return () => {
      this.#peers.delete(peer);
      this.#tellPeers();
    };
  }
  /** Has everyone who waits for etcd look again: a member's disk changed. */
  touch(): void {
    this.#dirty();
    if (!this.etcd.bootstrapped) {
      this.objects.clear();
      void this.real?.stop(true);
    }
    for (const listener of [...this.#listeners]) listener();
  }
  /** Calls back when etcd changes, until the answer is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  #tellPeers(): void {
    for (const peer of this.#peers) peer.membersChanged();
  }
}

/** A cluster as plain data. */
export interface SavedCluster {
  readonly id: string;
  readonly name: string;
  readonly members: readonly EtcdMember[];
  readonly objects: SavedObjects;
}

/** The clusters of one process. */
export class Clusters {
  readonly #clusters = new Map<string, Cluster>();
  readonly #clock: Clock;
  readonly #dirty: () => void;
  readonly #real: RealOptions | undefined;

  constructor(clock: Clock, dirty: () => void = () => {}, real?: RealOptions) {
    this.#clock = clock;
    this.#dirty = dirty;
    this.#real = real;
  }
  /** The cluster of a configuration. The authority is part of the identity: another one is another cluster. */
  of(config: ConfigView): Cluster {
    const id = config.clusterId || config.os.crt;
    let cluster = this.#clusters.get(id);
    if (!cluster) {
      cluster = new Cluster(id, config.clusterName, this.#clock, this.#dirty, this.#real);
      this.#clusters.set(id, cluster);
    }
    return cluster;
  }
  /** A disk with etcd's data was wiped. */
  lose({ cluster, member }: { readonly cluster: string; readonly member: string }): void {
    this.#clusters.get(cluster)?.etcd.lose(member);
  }
  /** Ends the programs of all clusters; what they hold stays. */
  async stop(): Promise<void> {
    await Promise.all([...this.#clusters.values()].map((cluster) => cluster.real?.stop()));
  }
  /** What is to be kept: a cluster without etcd holds nothing. */
  save(): SavedCluster[] {
    const alive = [...this.#clusters.values()].filter((cluster) => cluster.etcd.bootstrapped);
    return alive.map((cluster) => ({
      id: cluster.id,
      name: cluster.name,
      members: cluster.etcd.save(),
      objects: cluster.objects.save(),
    }));
  }
  load(saved: readonly SavedCluster[]): void {
    for (const { id, name, members, objects } of saved) {
      const cluster = new Cluster(id, name, this.#clock, this.#dirty, this.#real);
      cluster.etcd.load(members);
      cluster.objects.load(objects);
      this.#clusters.set(id, cluster);
    }
  }
}
