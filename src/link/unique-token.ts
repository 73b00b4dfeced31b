import { timingSafeEqual } from "node:crypto";
import { IchorError } from "#lib/errors.ts";

/** The token that a machine keeps in META 16 (protocols.md 2.6). */
export interface UniqueToken {
  /** SHA-256 over the MAC addresses, hex; empty never matches another. */
  readonly fingerprint: string;
  readonly token: string;
}

/** Reads a token. Throws `permission_denied` for what is not one. */
export function parseUniqueToken(text: string): UniqueToken {
  try {
    if (text.length > 4096) throw new Error("too long");
    const { Fingerprint: fingerprint = "", Token: token } = JSON.parse(text) as {
      Fingerprint?: unknown;
      Token?: unknown;
    };
    if (typeof token !== "string" || token === "" || typeof fingerprint !== "string")
      throw new Error("fields are missing");
    return { fingerprint, token };
  } catch (cause) {
    throw new IchorError("permission_denied", "unauthorized: the unique token cannot be read", { cause });
  }
}

/** The text that goes into META. */
export function printUniqueToken({ fingerprint, token }: UniqueToken): string {
  return JSON.stringify({ Fingerprint: fingerprint, Token: token });
}

/** Whether two tokens are of one machine; in constant time. */
export function sameToken(a: UniqueToken, b: UniqueToken): boolean {
  const [left, right] = [Buffer.from(a.token), Buffer.from(b.token)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** Whether two tokens were made on the same hardware. */
export function sameHardware(a: UniqueToken, b: UniqueToken): boolean {
  return a.fingerprint !== "" && a.fingerprint === b.fingerprint;
}
