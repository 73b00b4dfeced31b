import { formatHostPort } from "#lib/ip.ts";
import type { Endpoint, PeerEvent } from "#link/engine.ts";
import { endpointText, silence } from "#link/user/engine.ts";
import type { Dump } from "./dump.ts";

interface Seen {
  readonly address: string;
  up: boolean;
  /** Of the last handshake: what `wg` says of its time, and when that was seen to change. */
  handshake: number;
  since: number;
  /** Where it was at the last look, as the interface says it and as we say it. */
  raw: string;
  where: string;
}

/**
 * Who is up, from looks at the interface. The time of a handshake is only compared for change: what the wall clock does meanwhile
 * makes nobody go down.
 */
export class Presence {
  readonly #peers = new Map<string, Seen>();
  readonly #endpointOf: (host: string, port: number) => Endpoint;

  /** `endpointOf` says what is behind an address: a machine, or the tunnel of one. */
  constructor(endpointOf: (host: string, port: number) => Endpoint) {
    this.#endpointOf = endpointOf;
  }

  add(key: string, address: string): void {
    this.#peers.set(key, { address, up: false, handshake: 0, since: 0, raw: "", where: "" });
  }

  remove(key: string): void {
    this.#peers.delete(key);
  }

  isUp(key: string): boolean {
    return this.#peers.get(key)?.up ?? false;
  }

  /** What changed since the last look; `now` is monotonic. */
  look(dump: Dump, now: number): PeerEvent[] {
    const events: PeerEvent[] = [];
    for (const { key, endpoint, handshake } of dump.peers) {
      const seen = this.#peers.get(key);
      if (!seen) continue;
      if (handshake !== seen.handshake && handshake !== 0) {
        seen.handshake = handshake;
        seen.since = now;
      }
      if (seen.handshake === 0 || !endpoint) continue;
      const { address } = seen;
      const heard = now - seen.since < silence;
      if (!heard) {
        if (seen.up) events.push({ kind: "down", address });
        seen.up = false;
        continue;
      }
      // The same words of the interface mean the same place, also when the relay behind them has ended meanwhile.
      const raw = formatHostPort(endpoint.host, endpoint.port);
      if (seen.up && raw === seen.raw) continue;
      const place = this.#endpointOf(endpoint.host, endpoint.port);
      const where = endpointText(place);
      if (!seen.up) events.push({ kind: "up", address, endpoint: place });
      else if (where !== seen.where) events.push({ kind: "roamed", address, endpoint: place });
      Object.assign(seen, { up: true, raw, where });
    }
    return events;
  }
}
