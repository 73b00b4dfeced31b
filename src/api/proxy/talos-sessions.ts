import type { ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { State } from "#store/state.ts";
import type { Credentials, Dial } from "#talos/dial.ts";
import { issueTalosClient } from "#talos/pki.ts";
import { apidPort, MachineSession } from "#talos/session.ts";
import { Issued, issuedLifetime } from "./issued.ts";
import { Liveness } from "./liveness.ts";
import type { IndexedMachine, MachineIndex } from "./machine-index.ts";

/** Sessions kept at most; a session without calls closes its connection after six minutes by itself. */
const mostSessions = 2000;
const probeTimeout = 7000;
const maintenance: Credentials = { mode: "maintenance" };

interface Entry {
  readonly session: MachineSession;
  readonly credentials: Credentials;
  readonly address: string;
  calls: number;
  /** Another one took its place: it closes with its last call. */
  replaced: boolean;
}

/** Connections to apid of machines, one for each machine and role, with certificates made for that role. */
export class TalosSessions {
  readonly #state: State;
  readonly #dial: Dial;
  readonly #clock: Clock;
  /** By roles: there are few sets of them. */
  readonly #issued = new Map<string, Issued<Credentials>>();
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>();
  readonly #liveness: Liveness;
  readonly #stopWatching: () => void;

  constructor(options: { state: State; dial: Dial; clock: Clock; machines: MachineIndex }) {
    this.#state = options.state;
    this.#dial = options.dial;
    this.#clock = options.clock;
    this.#liveness = new Liveness(options.clock, async (address) => {
      const stream = await options.dial(address, apidPort, AbortSignal.timeout(probeTimeout));
      stream.on("error", () => {}).destroy();
    });
    this.#stopWatching = options.machines.onLost(({ address }) => this.#drop(address));
  }

  /**
   * Opens a call. `roles` are Talos roles, empty for a machine in maintenance. Throws `unavailable`, `unauthenticated` when the machine
   * is not of its cluster, `not_found` without secrets of the cluster.
   */
  async open(
    machine: IndexedMachine,
    roles: readonly string[],
    path: string,
    headers: OutgoingHttpHeaders,
  ): Promise<ClientHttp2Stream> {
    const credentials = machine.maintenance ? maintenance : await this.#credentials(machine.cluster, roles);
    const entry = this.#entry(machine, roles, credentials);
    entry.calls++;
    try {
      const stream = await this.#request(entry, path, headers);
      // Listened to for its whole life: an error between two users must not end the process.
      stream.on("error", () => {});
      const { session } = stream;
      const stop = this.#liveness.guard(
        machine.address,
        () => session?.socket?.bytesRead ?? 0,
        (error) => {
          stream.destroy(error);
          session?.destroy(error);
        },
      );
      stream.once("close", () => {
        stop();
        this.#done(entry);
      });
      return stream;
    } catch (error) {
      this.#done(entry);
      throw error;
    }
  }

  close(): void {
    this.#stopWatching();
    for (const { session } of this.#entries.values()) session.close();
    this.#entries.clear();
  }

  /** Sessions that are kept. */
  get size(): number {
    return this.#entries.size;
  }

  /** Once more when the connection turns out to be closing: nothing was sent on it. */
  async #request({ session, address }: Entry, path: string, headers: OutgoingHttpHeaders): Promise<ClientHttp2Stream> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await session.request("POST", path, headers, { endStream: false });
      } catch (cause) {
        if (cause instanceof IchorError) throw cause;
        if (attempt > 0)
          throw new IchorError("unavailable", `the connection to the Talos API of ${address} broke`, { cause });
      }
    }
  }

  #entry({ id, address }: IndexedMachine, roles: readonly string[], credentials: Credentials): Entry {
    const key = `${id} ${address} ${roles.join(",")}`;
    const known = this.#entries.get(key);
    this.#entries.delete(key);
    if (known?.credentials === credentials) {
      this.#entries.set(key, known);
      return known;
    }
    // Replaced: its calls go on to their end.
    if (known) this.#replace(known);
    const session = new MachineSession({ dial: this.#dial, address, credentials });
    const entry = { session, credentials, address, calls: 0, replaced: false };
    this.#entries.set(key, entry);
    this.#shrink();
    return entry;
  }

  #replace(entry: Entry): void {
    entry.replaced = true;
    if (entry.calls === 0) entry.session.close();
  }

  #done(entry: Entry): void {
    entry.calls--;
    if (entry.calls === 0 && entry.replaced) entry.session.close();
  }

  #shrink(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#entries.size <= mostSessions) return;
      if (entry.calls > 0) continue;
      this.#entries.delete(key);
      entry.session.close();
    }
  }

  #drop(address: string): void {
    for (const [key, entry] of this.#entries) {
      if (entry.address !== address) continue;
      this.#entries.delete(key);
      entry.session.close();
    }
  }

  #credentials(cluster: string, roles: readonly string[]): Promise<Credentials> {
    const key = roles.join(",");
    let issued = this.#issued.get(key);
    if (!issued) {
      issued = new Issued(this.#state, this.#clock, async ({ os }, spec) => {
        const { crt, key } = await issueTalosClient(os, roles, issuedLifetime, this.#clock);
        const extra = spec.extraCerts?.os?.crt;
        const ca = extra?.length ? `${os.crt}${Buffer.from(extra)}` : os.crt;
        return { mode: "mtls", ca, cert: crt, key };
      });
      this.#issued.set(key, issued);
    }
    return issued.get(cluster);
  }
}
