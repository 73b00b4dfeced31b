import { createCipheriv, createDecipheriv } from "node:crypto";
import { messageType, readCounter, tagLength, transportHeader, writeCounter, writeUint32 } from "./messages.ts";
import type { SessionKeys } from "./noise.ts";
import { ReplayWindow } from "./replay.ts";

/** Messages after which a session asks for a new one, and after which it seals and opens no more. */
export interface MessageLimits {
  readonly rekeyAfter: number;
  readonly rejectAfter: number;
}

/** Below the paper's (6.1), for the safe numbers of the language. */
export const messageLimits: MessageLimits = { rekeyAfter: 2 ** 51, rejectAfter: 2 ** 52 };
const options = { authTagLength: tagLength } as const;

/** A pair of transport keys: seals and opens packets. */
export class Session {
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly initiator: boolean;
  /** Clock.monotonic() of its birth. */
  readonly born: number;
  readonly #keys: SessionKeys;
  readonly #limits: MessageLimits;
  readonly #replay = new ReplayWindow();
  readonly #nonce = Buffer.alloc(12);
  #counter = 0;

  constructor(
    keys: SessionKeys,
    localIndex: number,
    remoteIndex: number,
    initiator: boolean,
    born: number,
    limits = messageLimits,
  ) {
    this.#keys = keys;
    this.#limits = limits;
    this.localIndex = localIndex;
    this.remoteIndex = remoteIndex;
    this.initiator = initiator;
    this.born = born;
  }

  get wantsRekey(): boolean {
    return this.#counter >= this.#limits.rekeyAfter;
  }
  get spent(): boolean {
    return this.#counter >= this.#limits.rejectAfter;
  }

  /** The datagram of a packet (empty = keepalive), padded to 16 bytes but not beyond `mtu`. */
  seal(packet: Uint8Array, mtu: number): Uint8Array {
    const padded =
      packet.length > mtu ? packet.length : Math.min((packet.length + 15) & ~15, Math.max(mtu, packet.length));
    const datagram = Buffer.allocUnsafe(transportHeader + padded + tagLength);
    datagram.writeUInt32LE(messageType.transport, 0);
    writeUint32(datagram, 4, this.remoteIndex);
    const counter = this.#counter++;
    writeCounter(datagram, 8, counter);
    writeCounter(this.#nonce, 4, counter);
    const cipher = createCipheriv("chacha20-poly1305", this.#keys.send, this.#nonce, options);
    datagram.set(cipher.update(packet), transportHeader);
    if (padded > packet.length)
      datagram.set(cipher.update(zeros.subarray(0, padded - packet.length)), transportHeader + packet.length);
    cipher.final();
    datagram.set(cipher.getAuthTag(), transportHeader + padded);
    return datagram;
  }

  /** The padded packet of a datagram; undefined when forged or seen before. */
  open(datagram: Uint8Array): Uint8Array | undefined {
    const counter = readCounter(datagram, 8);
    if (counter >= this.#limits.rejectAfter) return undefined;
    const end = datagram.length - tagLength;
    writeCounter(this.#nonce, 4, counter);
    const decipher = createDecipheriv("chacha20-poly1305", this.#keys.receive, this.#nonce, options);
    decipher.setAuthTag(datagram.subarray(end));
    const packet = decipher.update(datagram.subarray(transportHeader, end));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return this.#replay.accept(counter) ? packet : undefined;
  }
}

const zeros = Buffer.alloc(16);
