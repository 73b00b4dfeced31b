import { createCipheriv, createDecipheriv } from "node:crypto";
import { messageType, readCounter, tagLength, transportHeader, writeCounter, writeUint32 } from "./messages.ts";
import type { SessionKeys } from "./noise.ts";
import { ReplayWindow } from "./replay.ts";

/** Messages after which a session asks for a new one, and after which it seals no more (whitepaper 6.1; ours is 2^52 for the safe numbers of the language). */
const rekeyAfterMessages = 2 ** 51;
const rejectAfterMessages = 2 ** 52;
const options = { authTagLength: tagLength } as const;

/** A pair of transport keys: seals and opens packets. */
export class Session {
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly initiator: boolean;
  /** Clock.monotonic() of its birth. */
  readonly born: number;
  readonly #keys: SessionKeys;
  readonly #replay = new ReplayWindow();
  readonly #nonce = Buffer.alloc(12);
  #counter = 0;

  constructor(keys: SessionKeys, localIndex: number, remoteIndex: number, initiator: boolean, born: number) {
    this.#keys = keys;
    this.localIndex = localIndex;
    this.remoteIndex = remoteIndex;
    this.initiator = initiator;
    this.born = born;
  }

  get wantsRekey(): boolean {
    return this.#counter >= rekeyAfterMessages;
  }
  get spent(): boolean {
    return this.#counter >= rejectAfterMessages;
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
    if (counter >= rejectAfterMessages) return undefined;
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
