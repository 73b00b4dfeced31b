import type { Duplex } from "node:stream";

/** Opens a TCP connection to a machine by its address. In the plane this is `LinkEngine.connect`; in tests a socket. */
export type Dial = (address: string, port: number, signal?: AbortSignal) => Promise<Duplex>;

/** How to be let in by apid. */
export type Credentials =
  /** Maintenance: the server's certificate is not verified; the link vouches for it. */
  | { readonly mode: "maintenance" }
  /** mTLS: PEM texts; the server must chain to `ca` and hold the dialled address as SAN. */
  | { readonly mode: "mtls"; readonly ca: string; readonly cert: string; readonly key: string };
