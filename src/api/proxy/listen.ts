import type { Duplex } from "node:stream";

/** A connection that a machine opened to the plane, with its SideroLink address in canonical text. */
export interface Accepted {
  readonly stream: Duplex;
  readonly remoteAddress: string;
}

/** Accepts TCP on the plane's SideroLink address. In the plane this is `LinkEngine.listen`. Throws `already_exists` when the port is taken. */
export type Listen = (port: number, onConnection: (accepted: Accepted) => void) => Promise<{ close(): Promise<void> }>;
