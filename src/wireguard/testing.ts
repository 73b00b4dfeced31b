import { createHash, createHmac } from "node:crypto";
import { ManualClock } from "#lib/clock.ts";
import { parseIP } from "#lib/ip.ts";
import { generatePrivateKey, publicKeyOf, WireGuard, type WireGuardOptions } from "./device.ts";

/** An IPv6 packet with a payload. */
export function packet(from: string, to: string, payload: Uint8Array | string): Uint8Array {
  const body = Buffer.from(payload);
  const bytes = new Uint8Array(40 + body.length);
  bytes[0] = 0x60;
  bytes[4] = body.length >> 8;
  bytes[5] = body.length;
  bytes[6] = 59;
  bytes.set(parseIP(from), 8);
  bytes.set(parseIP(to), 24);
  bytes.set(body, 40);
  return bytes;
}

/** What a test may change of a pair. */
export interface PairOptions {
  readonly keepalive?: number;
  readonly presharedKey?: Uint8Array;
  readonly limits?: WireGuardOptions<string>["limits"];
}

interface Wire {
  /** What to do with a datagram on its way; the default delivers it. */
  pass: (datagram: Uint8Array, deliver: () => void, to: string) => void;
}

/** Two devices, "a" at fd00::a and "b" at fd00::b, on one wire; "a" knows where "b" is. */
export function pair({ limits, ...options }: PairOptions = {}) {
  const clock = new ManualClock();
  const wire: Wire = { pass: (_, deliver) => deliver() };
  const got = { a: [] as Buffer[], b: [] as Buffer[] };
  const keys = { a: generatePrivateKey(), b: generatePrivateKey() };
  const seen: { to: string; datagram: Uint8Array }[] = [];
  const endpoints = { a: "a", b: "b" };
  const moved: string[] = [];
  const make = (self: "a" | "b", other: "a" | "b"): WireGuard<string> =>
    new WireGuard<string>({
      privateKey: keys[self],
      clock,
      ...(limits ? { limits } : {}),
      send: (datagram, to) => {
        seen.push({ to, datagram });
        wire.pass(datagram, () => devices[other].input(datagram, endpoints[self]), to);
      },
      receive: (inner) => got[self].push(Buffer.from(inner)),
      onEndpoint: (peer) => moved.push(`${other} at ${peer.endpoint}`),
    });
  const devices: Record<"a" | "b", WireGuard<string>> = { a: make("a", "b"), b: make("b", "a") };
  devices.a.addPeer({ ...options, publicKey: publicKeyOf(keys.b), endpoint: "b", allowedIPs: ["fd00::b/128"] });
  const { keepalive: _, ...passive } = options;
  devices.b.addPeer({ ...passive, publicKey: publicKeyOf(keys.a), allowedIPs: ["fd00::a"] });
  const send = (self: "a" | "b", text: string) => {
    const other = self === "a" ? "b" : "a";
    return devices[self].output(packet(`fd00::${self}`, `fd00::${other}`, text));
  };
  const heard = (self: "a" | "b") => got[self].map((inner) => inner.subarray(40).toString());
  /** Datagrams of a type that were sent so far. */
  const sent = (type: number) => seen.filter(({ datagram }) => datagram[0] === type).length;
  return { clock, wire, devices, send, heard, seen, sent, keys, endpoints, moved };
}

const iv = Uint32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);
const sigma = [
  "0123456789abcdef",
  "ea489fd61c02b753",
  "b8c052fdae367194",
  "7931dcbe265a40f8",
  "905724afe1bc683d",
  "2c6a0b834d75fe19",
  "c51fed4a0763928b",
  "db7ec13950f4862a",
  "6fe9b308c2d714a5",
  "a2847615fb9e3cd0",
];

/** BLAKE2s from RFC 7693, plainly: the second opinion of the tests on what the devices use. */
export function plainBlake2s(message: Uint8Array, length = 32, key: Uint8Array = new Uint8Array()): Buffer {
  const state = Uint32Array.from(iv);
  state[0]! ^= 0x01010000 ^ (key.length << 8) ^ length;
  const padded = Buffer.alloc(key.length > 0 ? 64 + message.length : message.length);
  padded.set(key);
  padded.set(message, padded.length - message.length);
  const blocks = Math.max(1, Math.ceil(padded.length / 64));
  for (let block = 0; block < blocks; block++) {
    const bytes = Buffer.alloc(64);
    padded.copy(bytes, 0, block * 64);
    const words = Array.from({ length: 16 }, (_, index) => bytes.readUInt32LE(index * 4));
    const v = new Uint32Array(16);
    v.set(state);
    v.set(iv, 8);
    v[12]! ^= Math.min(padded.length, (block + 1) * 64);
    if (block === blocks - 1) v[14] = ~v[14]!;
    const rotate = (value: number, by: number) => (value >>> by) | (value << (32 - by));
    const mix = (a: number, b: number, c: number, d: number, x: number, y: number) => {
      v[a] = v[a]! + v[b]! + x;
      v[d] = rotate(v[d]! ^ v[a]!, 16);
      v[c] = v[c]! + v[d]!;
      v[b] = rotate(v[b]! ^ v[c]!, 12);
      v[a] = v[a]! + v[b]! + y;
      v[d] = rotate(v[d]! ^ v[a]!, 8);
      v[c] = v[c]! + v[d]!;
      v[b] = rotate(v[b]! ^ v[c]!, 7);
    };
    for (const row of sigma) {
      const m = (at: number) => words[Number.parseInt(row[at]!, 16)]!;
      for (let at = 0; at < 4; at++) mix(at, 4 + at, 8 + at, 12 + at, m(2 * at), m(2 * at + 1));
      for (let at = 0; at < 4; at++)
        mix(at, 4 + ((at + 1) % 4), 8 + ((at + 2) % 4), 12 + ((at + 3) % 4), m(8 + 2 * at), m(9 + 2 * at));
    }
    for (let at = 0; at < 8; at++) state[at]! ^= v[at]! ^ v[at + 8]!;
  }
  return Buffer.from(state.buffer).subarray(0, length);
}

/** HASH, MAC, HMAC and KDFn of the protocol from OpenSSL and the plain BLAKE2s above, sharing no line with the devices. */
export const model = {
  hash: (...parts: (Uint8Array | string)[]): Buffer =>
    createHash("blake2s256")
      .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
      .digest(),
  mac: (key: Uint8Array, message: Uint8Array): Buffer => plainBlake2s(message, 16, key),
  kdf(key: Uint8Array, input: Uint8Array, count: number): Buffer[] {
    const secret = createHmac("blake2s256", key).update(input).digest();
    const keys: Buffer[] = [];
    for (let index = 1; index <= count; index++)
      keys.push(
        createHmac("blake2s256", secret)
          .update(Buffer.concat([keys.at(-1) ?? Buffer.alloc(0), Buffer.of(index)]))
          .digest(),
      );
    return keys;
  },
};
