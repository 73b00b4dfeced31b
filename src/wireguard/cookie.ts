import { randomBytes } from "node:crypto";
import type { Clock } from "#lib/clock.ts";
import { hash, mac, openCookie, sealCookie } from "./aead.ts";
import { cookieLength, messageType, readUint32, writeUint32 } from "./messages.ts";

const label = new TextEncoder().encode("cookie--");
/** A secret, and so the cookies made with it, live two minutes. */
const lifetime = 120_000;
/** More handshakes than this in a second are load: senders must prove their address. */
const busy = 200;

/** Makes and checks cookies for those who send to us (whitepaper 5.3, 5.4.7). */
export class CookieJar {
  readonly #clock: Clock;
  readonly #key: Uint8Array;
  #secret = new Uint8Array(32);
  #secretAt = Number.NEGATIVE_INFINITY;
  #second = 0;
  #count = 0;

  constructor(clock: Clock, publicKey: Uint8Array) {
    this.#clock = clock;
    this.#key = hash(label, publicKey);
  }

  /** Counts a handshake message; true while there are too many. */
  underLoad(): boolean {
    const second = Math.floor(this.#clock.monotonic() / 1000);
    if (second !== this.#second) [this.#second, this.#count] = [second, 0];
    return ++this.#count > busy;
  }

  /** Whether MAC2 of a handshake message was made with the cookie of that source. */
  hasMac2(message: Uint8Array, source: string): boolean {
    const at = message.length - 16;
    return Buffer.compare(mac(this.#cookie(source), message.subarray(0, at)), message.subarray(at)) === 0;
  }

  /** The answer to a handshake message that lacks MAC2. */
  reply(message: Uint8Array, source: string): Uint8Array {
    const reply = new Uint8Array(cookieLength);
    reply[0] = messageType.cookie;
    writeUint32(reply, 4, readUint32(message, 4));
    const nonce = new Uint8Array(randomBytes(24));
    reply.set(nonce, 8);
    const at = message.length - 32;
    reply.set(sealCookie(this.#key, nonce, this.#cookie(source), message.subarray(at, at + 16)), 32);
    return reply;
  }

  #cookie(source: string): Uint8Array {
    const now = this.#clock.monotonic();
    if (now - this.#secretAt >= lifetime) {
      this.#secret = new Uint8Array(randomBytes(32));
      this.#secretAt = now;
    }
    return mac(this.#secret, new TextEncoder().encode(source));
  }
}

/** A cookie that a peer gave us, for MAC2 of our next handshake messages. */
export class ReceivedCookie {
  readonly #clock: Clock;
  readonly #key: Uint8Array;
  #cookie: Uint8Array | undefined;
  #at = 0;
  #lastMac1: Uint8Array | undefined;

  constructor(clock: Clock, theirPublicKey: Uint8Array) {
    this.#clock = clock;
    this.#key = hash(label, theirPublicKey);
  }

  /** Fills MAC2 of a message about to be sent, and remembers its MAC1 for the reply. */
  stamp(message: Uint8Array): void {
    const at = message.length - 16;
    this.#lastMac1 = message.slice(at - 16, at);
    if (this.#cookie && this.#clock.monotonic() - this.#at < lifetime)
      message.set(mac(this.#cookie, message.subarray(0, at)), at);
  }

  /** Takes a cookie reply; one that does not answer our last message is ignored. */
  take(reply: Uint8Array): void {
    if (!this.#lastMac1) return;
    const cookie = openCookie(this.#key, reply.slice(8, 32), reply.subarray(32, 64), this.#lastMac1);
    if (!cookie) return;
    this.#cookie = cookie;
    this.#at = this.#clock.monotonic();
  }
}
