import type { ClusterSecretsSpec } from "#gen/specs/specs_pb.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { decode, type State } from "#store/state.ts";
import { decodeSecrets, type SecretsBundle } from "#talos/secrets.ts";

/** Life of what is issued; used from memory only, so short. Renewed at half of it. */
export const issuedLifetime = 24 * 3_600_000;

interface Entry<T> {
  readonly version: string;
  readonly renew: number;
  readonly value: Promise<T>;
}

/**
 * Something made from the secrets of a cluster, kept until half its life is over or the secrets changed. The secrets themselves are
 * decoded only to make it, and not kept.
 */
export class Issued<T> {
  readonly #state: State;
  readonly #clock: Clock;
  readonly #make: (secrets: SecretsBundle, spec: ClusterSecretsSpec) => Promise<T>;
  readonly #entries = new Map<string, Entry<T>>();

  constructor(state: State, clock: Clock, make: (secrets: SecretsBundle, spec: ClusterSecretsSpec) => Promise<T>) {
    this.#state = state;
    this.#clock = clock;
    this.#make = make;
  }

  /** Answers the same object until it was renewed. Throws `not_found` when the cluster has no secrets. */
  async get(cluster: string): Promise<T> {
    const stored = await this.#state.store.get(ClusterSecretsKind.key(cluster));
    if (!stored) {
      this.#entries.delete(cluster);
      throw new IchorError("not_found", `cluster "${cluster}" does not exist, or its secrets are not made yet`);
    }
    const version = `${stored.metadata.created}.${stored.metadata.version}`;
    const known = this.#entries.get(cluster);
    if (known?.version === version && known.renew > this.#clock.now()) return known.value;
    const { spec } = decode(ClusterSecretsKind, stored);
    const value = this.#make(decodeSecrets(spec.data), spec);
    const entry = { version, renew: this.#clock.now() + issuedLifetime / 2, value };
    this.#entries.set(cluster, entry);
    value.catch(() => {
      if (this.#entries.get(cluster) === entry) this.#entries.delete(cluster);
    });
    return value;
  }
}
