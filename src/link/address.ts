import { createHash, randomBytes } from "node:crypto";
import { formatIP } from "#lib/ip.ts";

/** Purposes of a unique local prefix, byte 7 of the address (protocols.md 2.2). */
const purposes = { link: 0x03, virtual: 0x04 } as const;

/** First 8 bytes of the prefix of a purpose; Omni's installation id is always empty. */
function prefix(purpose: keyof typeof purposes): Uint8Array {
  const bytes = new Uint8Array(createHash("sha256").update("").digest().subarray(16, 24));
  bytes[0] = 0xfd;
  bytes[7] = purposes[purpose];
  return bytes;
}

function inPrefix(purpose: keyof typeof purposes, host: Uint8Array): string {
  const bytes = new Uint8Array(16);
  bytes.set(prefix(purpose));
  bytes.set(host, 8);
  return formatIP(bytes);
}

/** The plane's own address inside the link. */
export const planeAddress = inPrefix("link", Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1));
/** Port that virtual addresses carry. */
export const virtualPort = 50_889;

/** A new address for a machine. */
export function randomMachineAddress(): string {
  return inPrefix("link", randomBytes(8));
}

/** A new virtual address, `[v6]:port`, for a machine behind the gRPC tunnel. */
export function randomVirtualAddress(): string {
  return `[${inPrefix("virtual", randomBytes(8))}]:${virtualPort}`;
}
