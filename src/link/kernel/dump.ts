import { isIP } from "node:net";
import { IchorError } from "#lib/errors.ts";
import { parseHostPort } from "#lib/ip.ts";

/** One peer, as `wg` tells of it. */
export interface DumpPeer {
  /** Public key in base64. */
  readonly key: string;
  /** Where it was last heard or was said to be. */
  readonly endpoint?: { readonly host: string; readonly port: number };
  /** Wall time of the last handshake in whole seconds; 0 for none. */
  readonly handshake: number;
}

/** What an interface is at this moment. */
export interface Dump {
  /** Its UDP port. */
  readonly port: number;
  readonly peers: readonly DumpPeer[];
}

const key = /^[A-Za-z0-9+/]{43}=$/;

/**
 * Reads what `wg show NAME dump` prints: a line of the interface, then one for each peer, fields divided by tabs. Throws `internal` that names
 * line and field, and never their text: the first line has the private key.
 */
export function parseDump(text: string): Dump {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const [head = "", ...rest] = lines;
  const own = head.split("\t");
  if (own.length !== 4) throw misread(1, `has ${own.length} fields, not 4`);
  return {
    port: number(own[2], 1, "port", 65_535),
    peers: rest.map((line, at) => peer(line.split("\t"), at + 2)),
  };
}

function peer(fields: string[], line: number): DumpPeer {
  if (fields.length !== 8) throw misread(line, `has ${fields.length} fields, not 8`);
  const [publicKey = "", , endpoint = "", , handshake] = fields;
  if (!key.test(publicKey)) throw misread(line, "has no public key");
  return {
    key: publicKey,
    handshake: number(handshake, line, "handshake", Number.MAX_SAFE_INTEGER),
    ...(endpoint === "(none)" ? {} : { endpoint: place(endpoint, line) }),
  };
}

function place(text: string, line: number): { host: string; port: number } {
  try {
    const found = parseHostPort(text);
    if (isIP(found.host) !== 0) return found;
  } catch {}
  throw misread(line, "has an endpoint that is no address");
}

function number(text: string | undefined, line: number, what: string, most: number): number {
  const value = Number(text);
  if (!text || !/^\d+$/.test(text) || value > most) throw misread(line, `has a ${what} that is no number`);
  return value;
}

function misread(line: number, what: string): IchorError {
  return new IchorError("internal", `cannot read what wg says of the interface: line ${line} ${what}`);
}
