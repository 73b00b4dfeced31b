import { createCipheriv, createDecipheriv } from "node:crypto";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { blake2s } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";
import { tagLength } from "./messages.ts";

const options = { authTagLength: tagLength } as const;
const algorithm = "chacha20-poly1305";
const noNonce = new Uint8Array(12);

/** ChaCha20-Poly1305 with nonce zero: each key of the handshake seals one thing. Appends the tag. */
export function seal(key: Uint8Array, plain: Uint8Array, additional: Uint8Array): Uint8Array {
  const cipher = createCipheriv(algorithm, key, noNonce, options);
  cipher.setAAD(additional, { plaintextLength: plain.length });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** The inverse; undefined when it was not sealed with that key. */
export function open(key: Uint8Array, sealed: Uint8Array, additional: Uint8Array): Uint8Array | undefined {
  const length = sealed.length - tagLength;
  const decipher = createDecipheriv(algorithm, key, noNonce, options);
  decipher.setAAD(additional, { plaintextLength: length });
  decipher.setAuthTag(sealed.subarray(length));
  try {
    const plain = decipher.update(sealed.subarray(0, length));
    decipher.final();
    return plain;
  } catch {
    return undefined;
  }
}

/** XChaCha20-Poly1305 of cookies: rare, so the portable code will do. */
export function sealCookie(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, additional: Uint8Array): Uint8Array {
  return xchacha20poly1305(key, nonce, additional).encrypt(plain);
}

/** The inverse; undefined when it was not sealed with that key. */
export function openCookie(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  additional: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(key, nonce, additional).decrypt(sealed);
  } catch {
    return undefined;
  }
}

/** BLAKE2s-256 of the parts. */
export function hash(...parts: Uint8Array[]): Uint8Array {
  const state = blake2s.create({ dkLen: 32 });
  for (const part of parts) state.update(part);
  return state.digest();
}

/** Keyed BLAKE2s with 16 bytes out: the MACs. */
export function mac(key: Uint8Array, message: Uint8Array): Uint8Array {
  return blake2s(message, { key, dkLen: 16 });
}

/** HKDF of the protocol over HMAC-BLAKE2s: `count` keys of 32 bytes. */
export function derive(chaining: Uint8Array, input: Uint8Array, count: 1 | 2 | 3): Uint8Array[] {
  const secret = hmac(blake2s, chaining, input);
  const keys: Uint8Array[] = [];
  let last = new Uint8Array();
  for (let index = 1; index <= count; index++) {
    last = new Uint8Array(hmac(blake2s, secret, Buffer.concat([last, Uint8Array.of(index)])));
    keys.push(last);
  }
  return keys;
}
