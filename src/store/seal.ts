import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { IchorError } from "#lib/errors.ts";
import { type Key, keyText } from "#resource/resource.ts";

/** Seals bytes for one place in the store; what is sealed for one resource does not open as another. */
export interface Seal {
  /** Names the key without telling it: 8 hexadecimal digits. */
  readonly keyId: string;
  seal(plain: Uint8Array, place: Key): Uint8Array;
  /** Stands for an id that is a secret itself: always the same for one place, and tells nothing of the id. */
  nameOf(place: Key): string;
  /** Throws `failed_precondition` when it was sealed under another key, `data_loss` when it was changed or belongs elsewhere. */
  open(sealed: Uint8Array, place: Key): Uint8Array;
}

/** Layout: format (1 byte), key id (4), nonce (12), tag (16), then as many bytes as the plain text has. */
const format = 1;
const header = 1 + 4 + 12 + 16;

/**
 * AES-256-GCM (NIST SP 800-38D) under a key derived from a 32-byte master key with HKDF (RFC 5869), so that the master key may serve other
 * ends too. Namespace, type and id are authenticated with it. Nonces are random: good for 2^32 seals, years of a busy plane.
 */
export function createSeal(masterKey: Uint8Array): Seal {
  if (masterKey.length !== 32)
    throw new IchorError("invalid_argument", `the master key must have 32 bytes, it has ${masterKey.length}`);
  const derive = (info: string, length: number) => Buffer.from(hkdfSync("sha256", masterKey, "", info, length));
  const key = derive("ichor store seal", 32);
  const id = derive("ichor store seal id", 4);
  const keyId = id.toString("hex");
  const nameKey = derive("ichor store seal name", 32);

  return {
    keyId,
    seal(plain, place) {
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(context(place));
      const body = Buffer.concat([cipher.update(plain), cipher.final()]);
      return Buffer.concat([Buffer.of(format), id, nonce, cipher.getAuthTag(), body]);
    },
    nameOf: (place) => createHmac("sha256", nameKey).update(context(place)).digest("base64url"),
    open(sealed, place) {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
      if (bytes.length < header || bytes[0] !== format) throw damaged(place);
      const sealedUnder = bytes.toString("hex", 1, 5);
      if (sealedUnder !== keyId) {
        throw new IchorError(
          "failed_precondition",
          `${keyText(place)} is sealed under the master key ${sealedUnder}, the one given is ${keyId}`,
        );
      }
      const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(5, 17), { authTagLength: 16 });
      decipher.setAAD(context(place)).setAuthTag(bytes.subarray(17, header));
      try {
        return new Uint8Array(Buffer.concat([decipher.update(bytes.subarray(header)), decipher.final()]));
      } catch (cause) {
        throw damaged(place, cause);
      }
    },
  };
}

function context({ namespace, type, id }: Key): Buffer {
  return Buffer.from(JSON.stringify([namespace, type, id]));
}

function damaged(place: Key, cause?: unknown): IchorError {
  return new IchorError("data_loss", `the sealed content of ${keyText(place)} is damaged or was moved from elsewhere`, {
    cause,
  });
}
