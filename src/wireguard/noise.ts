import type { KeyObject } from "node:crypto";
import { derive, hash, mac, open, seal } from "./aead.ts";
import { agree, generatePrivateKey, privateObject, publicKeyOf, publicObject } from "./keys.ts";
import { initiationLength, messageType, readUint32, responseLength, writeUint32 } from "./messages.ts";

/** Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (whitepaper 5.4.1 to 5.4.5). */

const text = new TextEncoder();
const construction = hash(text.encode("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
const withIdentifier = hash(construction, text.encode("WireGuard v1 zx2c4 Jason@zx2c4.com"));
const labelMac1 = text.encode("mac1----");
const nothing = new Uint8Array();

/** Our side of every handshake. */
export interface LocalIdentity {
  readonly privateKey: KeyObject;
  readonly publicKey: Uint8Array;
  /** Key of MAC1 on messages to us. */
  readonly mac1Key: Uint8Array;
}

/** The other side, with what can be computed once. */
export interface RemoteIdentity {
  readonly publicKey: Uint8Array;
  /** Our static key with theirs. */
  readonly staticStatic: Uint8Array;
  readonly presharedKey: Uint8Array;
  /** Key of MAC1 on messages to them. */
  readonly mac1Key: Uint8Array;
}

/** Keys of one session: 32 bytes each way. */
export interface SessionKeys {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

/** A handshake that we began, until its response. */
export interface Pending {
  readonly index: number;
  readonly ephemeral: KeyObject;
  readonly chaining: Uint8Array;
  readonly hashed: Uint8Array;
}

/** What an initiation told, before it is answered. */
export interface Initiation {
  readonly sender: number;
  readonly staticKey: Uint8Array;
  readonly ephemeral: Uint8Array;
  readonly chaining: Uint8Array;
  readonly hashed: Uint8Array;
  /** Undoes the seal on the timestamp once the peer is known; undefined when it does not fit. */
  openTimestamp(
    remote: RemoteIdentity,
  ): { timestamp: Uint8Array; chaining: Uint8Array; hashed: Uint8Array } | undefined;
}

export function localIdentity(raw: Uint8Array): LocalIdentity {
  const publicKey = publicKeyOf(raw);
  return { privateKey: privateObject(raw), publicKey, mac1Key: hash(labelMac1, publicKey) };
}

/** Undefined when the key has low order. */
export function remoteIdentity(
  local: LocalIdentity,
  publicKey: Uint8Array,
  presharedKey?: Uint8Array,
): RemoteIdentity | undefined {
  const staticStatic = agree(local.privateKey, publicObject(publicKey));
  if (!staticStatic) return undefined;
  return {
    publicKey,
    staticStatic,
    presharedKey: presharedKey ?? new Uint8Array(32),
    mac1Key: hash(labelMac1, publicKey),
  };
}

/** First message. MAC2 is left zero: the caller fills it when it has a cookie. */
export function makeInitiation(
  local: LocalIdentity,
  remote: RemoteIdentity,
  index: number,
  timestamp: Uint8Array,
): { message: Uint8Array; pending: Pending } | undefined {
  const rawEphemeral = generatePrivateKey();
  const ephemeral = privateObject(rawEphemeral);
  const ephemeralPublic = publicKeyOf(rawEphemeral);
  const shared = agree(ephemeral, publicObject(remote.publicKey));
  if (!shared) return undefined;
  const message = new Uint8Array(initiationLength);
  message[0] = messageType.initiation;
  writeUint32(message, 4, index);
  message.set(ephemeralPublic, 8);
  let hashed = hash(hash(withIdentifier, remote.publicKey), ephemeralPublic);
  let [chaining] = derive(construction, ephemeralPublic, 1) as [Uint8Array];
  let key: Uint8Array;
  [chaining, key] = derive(chaining, shared, 2) as [Uint8Array, Uint8Array];
  const sealedStatic = seal(key, local.publicKey, hashed);
  message.set(sealedStatic, 40);
  hashed = hash(hashed, sealedStatic);
  [chaining, key] = derive(chaining, remote.staticStatic, 2) as [Uint8Array, Uint8Array];
  const sealedTimestamp = seal(key, timestamp, hashed);
  message.set(sealedTimestamp, 88);
  hashed = hash(hashed, sealedTimestamp);
  message.set(mac(remote.mac1Key, message.subarray(0, 116)), 116);
  return { message, pending: { index, ephemeral, chaining, hashed } };
}

/** Whether MAC1 of a handshake message was made by somebody who knows our public key: cheap, before any curve. */
export function hasMac1(local: LocalIdentity, message: Uint8Array): boolean {
  const at = message.length - 32;
  return Buffer.compare(mac(local.mac1Key, message.subarray(0, at)), message.subarray(at, at + 16)) === 0;
}

/** Reads a first message up to who sent it; undefined when it is not for us. */
export function readInitiation(local: LocalIdentity, message: Uint8Array): Initiation | undefined {
  const ephemeral = message.slice(8, 40);
  const shared = agree(local.privateKey, publicObject(ephemeral));
  if (!shared) return undefined;
  let hashed = hash(hash(withIdentifier, local.publicKey), ephemeral);
  const [first] = derive(construction, ephemeral, 1) as [Uint8Array];
  const [chaining, key] = derive(first, shared, 2) as [Uint8Array, Uint8Array];
  const sealedStatic = message.subarray(40, 88);
  const staticKey = open(key, sealedStatic, hashed);
  if (!staticKey) return undefined;
  hashed = hash(hashed, sealedStatic);
  const sealedTimestamp = message.subarray(88, 116);
  return {
    sender: readUint32(message, 4),
    staticKey: new Uint8Array(staticKey),
    ephemeral,
    chaining,
    hashed,
    openTimestamp(remote) {
      const [next, timestampKey] = derive(chaining, remote.staticStatic, 2) as [Uint8Array, Uint8Array];
      const timestamp = open(timestampKey, sealedTimestamp, hashed);
      return (
        timestamp && { timestamp: new Uint8Array(timestamp), chaining: next, hashed: hash(hashed, sealedTimestamp) }
      );
    },
  };
}

/** Second message, and the session it makes. `state` is what {@link Initiation.openTimestamp} gave. */
export function makeResponse(
  remote: RemoteIdentity,
  initiation: Pick<Initiation, "sender" | "ephemeral">,
  state: { chaining: Uint8Array; hashed: Uint8Array },
  index: number,
): { message: Uint8Array; keys: SessionKeys } | undefined {
  const rawEphemeral = generatePrivateKey();
  const ephemeral = privateObject(rawEphemeral);
  const ephemeralPublic = publicKeyOf(rawEphemeral);
  const ee = agree(ephemeral, publicObject(initiation.ephemeral));
  const se = agree(ephemeral, publicObject(remote.publicKey));
  if (!ee || !se) return undefined;
  const message = new Uint8Array(responseLength);
  message[0] = messageType.response;
  writeUint32(message, 4, index);
  writeUint32(message, 8, initiation.sender);
  message.set(ephemeralPublic, 12);
  const { chaining, key, hashed } = mixResponse(state, ephemeralPublic, ee, se, remote.presharedKey);
  message.set(seal(key, nothing, hashed), 44);
  message.set(mac(remote.mac1Key, message.subarray(0, 60)), 60);
  const [receive, send] = derive(chaining, nothing, 2) as [Uint8Array, Uint8Array];
  return { message, keys: { send, receive } };
}

/** Reads the second message; undefined when it does not answer `pending`. */
export function readResponse(
  local: LocalIdentity,
  remote: RemoteIdentity,
  pending: Pending,
  message: Uint8Array,
): SessionKeys | undefined {
  const ephemeralPublic = message.slice(12, 44);
  const theirs = publicObject(ephemeralPublic);
  const ee = agree(pending.ephemeral, theirs);
  const se = agree(local.privateKey, theirs);
  if (!ee || !se) return undefined;
  const { chaining, key, hashed } = mixResponse(pending, ephemeralPublic, ee, se, remote.presharedKey);
  if (!open(key, message.subarray(44, 60), hashed)) return undefined;
  const [send, receive] = derive(chaining, nothing, 2) as [Uint8Array, Uint8Array];
  return { send, receive };
}

function mixResponse(
  state: { chaining: Uint8Array; hashed: Uint8Array },
  ephemeral: Uint8Array,
  ee: Uint8Array,
  se: Uint8Array,
  psk: Uint8Array,
) {
  let hashed = hash(state.hashed, ephemeral);
  let [chaining] = derive(state.chaining, ephemeral, 1) as [Uint8Array];
  [chaining] = derive(chaining, ee, 1) as [Uint8Array];
  [chaining] = derive(chaining, se, 1) as [Uint8Array];
  const [next, temporary, key] = derive(chaining, psk, 3) as [Uint8Array, Uint8Array, Uint8Array];
  hashed = hash(hashed, temporary);
  return { chaining: next, key, hashed };
}
