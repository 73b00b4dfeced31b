import type { Connection } from "./connection.ts";

/**
 * Connections by their two ends: first by remote address, so that all of a peer are found at once, then by both ports in
 * one number. The last one found is looked at first: packets come in trains.
 */
export class Table {
  readonly #remotes = new Map<string, Map<number, Connection>>();
  #last: Connection | undefined;
  size = 0;

  /** The connection whose remote address stands at `at` of `bytes`. */
  find(bytes: Uint8Array, at: number, localPort: number, remotePort: number): Connection | undefined {
    const last = this.#last;
    if (last?.localPort === localPort && last.remotePort === remotePort && same(last.remote, bytes, at)) return last;
    const found = this.#remotes.get(text(bytes, at))?.get(localPort * 65_536 + remotePort);
    if (found) this.#last = found;
    return found;
  }

  add(c: Connection): void {
    const key = text(c.remote, 0);
    let ports = this.#remotes.get(key);
    if (!ports) {
      ports = new Map();
      this.#remotes.set(key, ports);
    }
    ports.set(c.localPort * 65_536 + c.remotePort, c);
    this.size++;
  }

  delete(c: Connection): void {
    const key = text(c.remote, 0);
    const ports = this.#remotes.get(key);
    const port = c.localPort * 65_536 + c.remotePort;
    if (ports?.get(port) !== c) return;
    ports.delete(port);
    if (ports.size === 0) this.#remotes.delete(key);
    if (this.#last === c) this.#last = undefined;
    this.size--;
  }

  /** All with that remote address; a copy, so that they can be ended. */
  of(remote: Uint8Array): Connection[] {
    return [...(this.#remotes.get(text(remote, 0))?.values() ?? [])];
  }

  all(): Connection[] {
    return [...this.#remotes.values()].flatMap((ports) => [...ports.values()]);
  }
}

function text(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, 16).toString("latin1");
}

function same(remote: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 15; i >= 0; i--) if (remote[i] !== bytes[at + i]) return false;
  return true;
}
