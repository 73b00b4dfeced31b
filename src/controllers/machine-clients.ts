import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { State } from "#store/state.ts";
import { createTalosClient, machineError, type TalosClient } from "#talos/client.ts";
import type { Credentials, Dial } from "#talos/dial.ts";
import { issueTalosClient } from "#talos/pki.ts";
import { decodeSecrets } from "#talos/secrets.ts";

/** Life of the plane's own client certificates: used from memory only, so short. */
const lifetime = 24 * 3_600_000;

interface Issued {
  /** Of the secrets that it was issued from: those of a later cluster of the same name are other ones. */
  readonly version: string;
  readonly until: number;
  readonly credentials: Promise<Credentials>;
}

/** Opens connections to the Talos API of machines, with the plane's own credentials. */
export class MachineClients {
  readonly #state: State;
  readonly #dial: Dial;
  readonly #clock: Clock;
  readonly #issued = new Map<string, Issued>();

  constructor(options: { readonly state: State; readonly dial: Dial; readonly clock: Clock }) {
    this.#state = options.state;
    this.#dial = options.dial;
    this.#clock = options.clock;
  }

  /** A client for a machine in maintenance. The caller closes it. */
  maintenance(address: string): TalosClient {
    return createTalosClient({ dial: this.#dial, address, credentials: { mode: "maintenance" } });
  }

  /** A client for a machine that runs a configuration of the cluster. The caller closes it. Throws `not_found` without secrets. */
  async ofCluster(address: string, cluster: string): Promise<TalosClient> {
    return createTalosClient({ dial: this.#dial, address, credentials: await this.#credentials(cluster) });
  }

  /**
   * Finds out by asking whether the machine runs a configuration of that cluster or is in maintenance. `use` gets a client that has
   * answered; it is closed afterwards.
   */
  async reach<T>(
    machine: { readonly address: string; readonly cluster?: string },
    signal: AbortSignal,
    use: (client: TalosClient, maintenance: boolean) => Promise<T>,
  ): Promise<T> {
    const { address, cluster } = machine;
    if (cluster !== undefined && (await this.#state.get(ClusterSecretsKind, cluster))) {
      const client = await this.ofCluster(address, cluster);
      try {
        if (await answers(client, signal)) return await use(client, false);
      } finally {
        client.close();
      }
    }
    const client = this.maintenance(address);
    try {
      if (await answers(client, signal)) return await use(client, true);
      throw new IchorError(
        "unauthenticated",
        `the machine at ${address} runs a configuration that is not of this plane`,
      );
    } finally {
      client.close();
    }
  }

  async #credentials(cluster: string): Promise<Credentials> {
    const secrets = await this.#state.require(ClusterSecretsKind, cluster);
    const version = `${secrets.metadata.created}.${secrets.metadata.version}`;
    const known = this.#issued.get(cluster);
    if (known && known.version === version && known.until > this.#clock.now()) return known.credentials;
    const { os } = decodeSecrets(secrets.spec.data);
    const credentials = issueTalosClient(os, ["os:admin"], lifetime, this.#clock).then(
      ({ crt, key }): Credentials => ({ mode: "mtls", ca: os.crt, cert: crt, key }),
    );
    this.#issued.set(cluster, {
      version,
      until: this.#clock.now() + lifetime / 2,
      credentials,
    });
    return credentials;
  }
}

/** False when the machine refuses who we are; other failures throw. */
async function answers(client: TalosClient, signal: AbortSignal): Promise<boolean> {
  try {
    await client.machine.version({}, { signal, timeoutMs: 5000 });
    return true;
  } catch (cause) {
    const error = machineError(cause, "asking for its version");
    if (error.code === "unauthenticated" || error.code === "permission_denied") return false;
    if (/certificate|handshake|bad_certificate|unknown_ca|alert/i.test(error.message)) return false;
    throw error;
  }
}
