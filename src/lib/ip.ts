import ipaddr from "ipaddr.js";
import { IchorError } from "./errors.ts";

/** Network bytes of an IP address: 4 or 16. */
export type IPBytes = Uint8Array;

/** Bytes of an address in text, brackets and zone not allowed. Throws `invalid_argument`. */
export function parseIP(text: string): IPBytes {
  // Nothing but four decimal numbers or IPv6: the library takes `1`, `0x7f.1` and `010.0.0.1` too.
  if (text.includes("%") || !(ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text)))
    throw new IchorError("invalid_argument", `"${text}" is not an IP address`);
  return Uint8Array.from(ipaddr.parse(text).toByteArray());
}

/** Canonical text (RFC 5952 for IPv6). Throws `invalid_argument` when `bytes` is neither 4 nor 16 long. */
export function formatIP(bytes: IPBytes): string {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new IchorError("invalid_argument", `an IP address has 4 or 16 bytes, not ${bytes.length}`);
  const address = ipaddr.fromByteArray([...bytes]);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}

/** Canonical form of an address in text, so that texts can be compared. */
export function canonicalIP(text: string): string {
  return formatIP(parseIP(text));
}

/** Splits `host:port`, `[v6]:port`. Throws `invalid_argument`. */
export function parseHostPort(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535)
    throw new IchorError("invalid_argument", `"${text}" is not HOST:PORT (IPv6 in brackets)`);
  return { host: match[1] ?? match[2] ?? "", port };
}

/** The inverse of {@link parseHostPort}. */
export function formatHostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
