import type { Duplex } from "node:stream";

/** TCP inside the link, as a machine sees it: its own SideroLink address and the plane's. In tests: plain in-memory pairs. */
export interface Network {
  /** The machine's SideroLink address, canonical text. */
  readonly address: string;
  /** Accepts connections to `port`. */
  listen(port: number, accept: (stream: Duplex, remoteAddress: string) => void): { close(): void };
  /** Throws `unavailable` when nobody answers. */
  connect(address: string, port: number, signal?: AbortSignal): Promise<Duplex>;
}

/** Ports of a machine and of what it calls inside the link (protocols.md 0.1). */
export const ports = { apid: 50_000, trustd: 50_001, kubernetes: 6443 } as const;
