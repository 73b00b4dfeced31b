import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject, randomBytes } from "node:crypto";

/** Length of every key of the protocol. */
export const keyLength = 32;

// DER around a raw X25519 key (RFC 8410): OpenSSL takes no bare bytes.
const privatePrefix = Buffer.from("302e020100300506032b656e04220420", "hex");
const publicPrefix = Buffer.from("302a300506032b656e032100", "hex");

/** A new private key, 32 bytes, clamped. */
export function generatePrivateKey(): Uint8Array {
  const key = new Uint8Array(randomBytes(keyLength));
  key[0]! &= 248;
  key[31]! = (key[31]! & 127) | 64;
  return key;
}

/** The public key of a private one. */
export function publicKeyOf(privateKey: Uint8Array): Uint8Array {
  return rawPublic(createPublicKey(privateObject(privateKey)));
}

/** A private key ready for many agreements. */
export function privateObject(raw: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([privatePrefix, raw]), format: "der", type: "pkcs8" });
}

/** A public key ready for many agreements. */
export function publicObject(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([publicPrefix, raw]), format: "der", type: "spki" });
}

/** X25519. Undefined when the other key has low order: such a handshake is refused. */
export function agree(privateKey: KeyObject, publicKey: KeyObject): Uint8Array | undefined {
  try {
    return diffieHellman({ privateKey, publicKey });
  } catch {
    return undefined;
  }
}

/** Whether bytes are a public key that anybody can agree with: 32 of them, not of low order. */
export function isUsable(publicKey: Uint8Array): boolean {
  return publicKey.length === keyLength && agree(probe, publicObject(publicKey)) !== undefined;
}
const probe = privateObject(generatePrivateKey());

function rawPublic(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: "der", type: "spki" }).subarray(publicPrefix.length));
}
