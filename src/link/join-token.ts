import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { IchorError } from "#lib/errors.ts";

/** A join token as a machine presents it (protocols.md 2.7). */
export type JoinToken =
  | { readonly kind: "plain"; readonly text: string }
  | {
      readonly kind: "signed";
      readonly version: 1 | 2;
      readonly extra: Readonly<Record<string, string>>;
      readonly signature: Uint8Array;
    };

/** Names the infrastructure provider that a machine comes from. */
export const providerKey = "omni.sidero.dev/infra-provider-id";

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** Longest text that is looked at. */
const longest = 8192;

/** A new plain token: base62 of 32 random bytes. */
export function makeJoinToken(): string {
  let value = BigInt(`0x${randomBytes(32).toString("hex")}`);
  let text = "";
  while (value > 0n) {
    text = alphabet[Number(value % 62n)] + text;
    value /= 62n;
  }
  return text.padStart(43, "0");
}

/** Reads a token. Throws `permission_denied` for a signed one that is malformed: the wire wants no more detail. */
export function parseJoinToken(text: string): JoinToken {
  const match = /^v([12]):/.exec(text);
  if (!match) return { kind: "plain", text };
  try {
    if (text.length > longest) throw new Error("too long");
    const encoded = text.slice(3);
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(encoded)) throw new Error("not base64");
    const value: unknown = JSON.parse(Buffer.from(encoded, "base64").toString());
    const { extra_data: extra, signature } = value as { extra_data?: unknown; signature?: unknown };
    if (typeof extra !== "object" || extra === null || typeof signature !== "string")
      throw new Error("fields are missing");
    for (const item of Object.values(extra))
      if (typeof item !== "string") throw new Error("extra_data holds more than texts");
    return {
      kind: "signed",
      version: match[1] === "1" ? 1 : 2,
      extra: extra as Record<string, string>,
      signature: Buffer.from(signature, "base64"),
    };
  } catch (cause) {
    throw new IchorError("permission_denied", "unauthorized", { cause });
  }
}

/** Whether a signed token was signed with `key`, the text of another token. */
export function isSignedBy(token: Extract<JoinToken, { kind: "signed" }>, key: string): boolean {
  const expected = createHmac("sha256", key).update(goJson(token.extra)).digest();
  return expected.length === token.signature.length && timingSafeEqual(expected, token.signature);
}

/** A map as Go's encoding/json writes it: keys sorted, no spaces, markup escaped. */
function goJson(map: Readonly<Record<string, string>>): string {
  // Written by hand: an object of the language would put keys that are numbers first.
  const text = (value: string) => JSON.stringify(value.toWellFormed());
  const fields = Object.entries(map)
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([key, value]) => `${text(key)}:${text(value)}`);
  return `{${fields.join(",")}}`.replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
