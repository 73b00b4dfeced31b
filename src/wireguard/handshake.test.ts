import assert from "node:assert/strict";
import { createCipheriv, createDecipheriv, createPrivateKey, createPublicKey, diffieHellman } from "node:crypto";
import { test } from "node:test";
import { ManualClock } from "#lib/clock.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "./device.ts";
import { model, packet } from "./testing.ts";

// The other side of each handshake is this small model: the paper's equations over OpenSSL, sharing no line with the devices.

const zeros = (length: number) => Buffer.alloc(length);
const jwk = (raw: Uint8Array) => Buffer.from(raw).toString("base64url");

function dh(privateKey: Uint8Array, publicKey: Uint8Array): Buffer {
  const own = { kty: "OKP", crv: "X25519", d: jwk(privateKey), x: jwk(publicKeyOf(privateKey)) };
  return diffieHellman({
    privateKey: createPrivateKey({ key: own, format: "jwk" }),
    publicKey: createPublicKey({ key: { kty: "OKP", crv: "X25519", x: jwk(publicKey) }, format: "jwk" }),
  });
}

function aead(key: Uint8Array, counter: bigint, plain: Uint8Array, additional: Uint8Array): Buffer {
  const nonce = zeros(12);
  nonce.writeBigUInt64LE(counter, 4);
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  cipher.setAAD(additional, { plaintextLength: plain.length });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function unaead(key: Uint8Array, counter: bigint, sealed: Uint8Array, additional: Uint8Array): Buffer {
  const nonce = zeros(12);
  nonce.writeBigUInt64LE(counter, 4);
  const decipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  decipher.setAAD(additional, { plaintextLength: sealed.length - 16 });
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

const c0 = model.hash("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s");
const h0 = model.hash(c0, "WireGuard v1 zx2c4 Jason@zx2c4.com");

function bytesOf(type: number, ...parts: Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.of(type, 0, 0, 0), ...parts]);
}
function number(value: number): Buffer {
  const bytes = zeros(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function side() {
  const privateKey = generatePrivateKey();
  return { privateKey, publicKey: Buffer.from(publicKeyOf(privateKey)) };
}

/** A device at fd00::a whose datagrams are kept. */
function deviceOf(privateKey: Uint8Array, clock: ManualClock) {
  const out: Buffer[] = [];
  const inner: Buffer[] = [];
  const device = new WireGuard<string>({
    privateKey,
    clock,
    send: (datagram) => out.push(Buffer.from(datagram)),
    receive: (bytes) => inner.push(Buffer.from(bytes)),
  });
  return { device, out, inner };
}

/** The second half, the same for both: mixes the responder's ephemeral key in. */
function secondHalf(c: Buffer, h: Buffer, ephemeral: Uint8Array, ee: Buffer, se: Buffer, psk: Uint8Array) {
  let [chaining] = model.kdf(c, ephemeral, 1) as [Buffer];
  [chaining] = model.kdf(chaining, ee, 1) as [Buffer];
  [chaining] = model.kdf(chaining, se, 1) as [Buffer];
  const [next, tau, key] = model.kdf(chaining, psk, 3) as [Buffer, Buffer, Buffer];
  const hashed = model.hash(model.hash(h, ephemeral), tau);
  const [first, second] = model.kdf(next, zeros(0), 2) as [Buffer, Buffer];
  return { key, hashed, first, second };
}

for (const [name, psk] of [
  ["without a preshared key", undefined],
  ["with a preshared key", Buffer.alloc(32, 0x5a)],
] as const) {
  test(`a device as initiator speaks the paper's bytes, ${name}`, () => {
    const [initiator, responder] = [side(), side()];
    const clock = new ManualClock(Date.UTC(2026, 5, 1));
    const { device, out, inner } = deviceOf(initiator.privateKey, clock);
    const options = { publicKey: responder.publicKey, endpoint: "b", allowedIPs: ["fd00::b"] };
    device.addPeer({ ...options, ...(psk ? { presharedKey: psk } : {}) });
    device.output(packet("fd00::a", "fd00::b", "hello"));

    // First message.
    const [message] = out;
    assert.equal(message!.length, 148);
    const sender = message!.subarray(4, 8);
    const ephemeral = message!.subarray(8, 40);
    let [c] = model.kdf(c0, ephemeral, 1) as [Buffer];
    let h = model.hash(model.hash(h0, responder.publicKey), ephemeral);
    let key: Buffer;
    [c, key] = model.kdf(c, dh(responder.privateKey, ephemeral), 2) as [Buffer, Buffer];
    const sealedStatic = aead(key, 0n, initiator.publicKey, h);
    h = model.hash(h, sealedStatic);
    [c, key] = model.kdf(c, dh(responder.privateKey, initiator.publicKey), 2) as [Buffer, Buffer];
    const timestamp = unaead(key, 0n, message!.subarray(88, 116), h);
    const milliseconds =
      Number(timestamp.readBigUInt64BE(0) - 2n ** 62n - 10n) * 1000 + timestamp.readUInt32BE(8) / 1e6;
    const behind = clock.now() - milliseconds;
    assert.ok(behind >= 0 && behind < 17, `${behind} ms behind`);
    const sealedTime = aead(key, 0n, timestamp, h);
    h = model.hash(h, sealedTime);
    const body = bytesOf(1, sender, ephemeral, sealedStatic, sealedTime);
    const mac1 = model.mac(model.hash("mac1----", responder.publicKey), body);
    assert.deepEqual(message, Buffer.concat([body, mac1, zeros(16)]));

    // The model answers; the device must take it and send its packet with the keys of the model.
    const fresh = side();
    const half = secondHalf(
      c,
      h,
      fresh.publicKey,
      dh(fresh.privateKey, ephemeral),
      dh(fresh.privateKey, initiator.publicKey),
      psk ?? zeros(32),
    );
    const answer = bytesOf(2, number(77), sender, fresh.publicKey, aead(half.key, 0n, zeros(0), half.hashed));
    const answered = Buffer.concat([answer, model.mac(model.hash("mac1----", initiator.publicKey), answer), zeros(16)]);
    device.input(answered, "b");
    const plain = Buffer.from(packet("fd00::a", "fd00::b", "hello"));
    const padded = Buffer.concat([plain, zeros(-plain.length & 15)]);
    const transport = (receiver: Uint8Array, counter: number, sealed: Buffer) =>
      bytesOf(4, receiver, number(counter), number(0), sealed);
    assert.deepEqual(out[1], transport(number(77), 0, aead(half.first, 0n, padded, zeros(0))));
    const back = Buffer.from(packet("fd00::b", "fd00::a", "and back"));
    device.input(transport(sender, 9, aead(half.second, 9n, back, zeros(0))), "b");
    assert.deepEqual(inner, [back]);
  });

  test(`a device as responder speaks the paper's bytes, ${name}`, () => {
    const [initiator, responder] = [side(), side()];
    const clock = new ManualClock();
    const { device, out, inner } = deviceOf(responder.privateKey, clock);
    const options = { publicKey: initiator.publicKey, allowedIPs: ["fd00::b"] };
    device.addPeer({ ...options, ...(psk ? { presharedKey: psk } : {}) });

    const fresh = side();
    let [c] = model.kdf(c0, fresh.publicKey, 1) as [Buffer];
    let h = model.hash(model.hash(h0, responder.publicKey), fresh.publicKey);
    let key: Buffer;
    [c, key] = model.kdf(c, dh(fresh.privateKey, responder.publicKey), 2) as [Buffer, Buffer];
    const sealedStatic = aead(key, 0n, initiator.publicKey, h);
    h = model.hash(h, sealedStatic);
    [c, key] = model.kdf(c, dh(initiator.privateKey, responder.publicKey), 2) as [Buffer, Buffer];
    const timestamp = Buffer.from("400000006a0000000000000a", "hex");
    const sealedTime = aead(key, 0n, timestamp, h);
    h = model.hash(h, sealedTime);
    const body = bytesOf(1, number(0x01020304), fresh.publicKey, sealedStatic, sealedTime);
    const mac1 = model.mac(model.hash("mac1----", responder.publicKey), body);
    device.input(Buffer.concat([body, mac1, zeros(16)]), "b");

    const [answer] = out;
    assert.equal(answer!.length, 92);
    const theirs = answer!.subarray(12, 44);
    const half = secondHalf(
      c,
      h,
      theirs,
      dh(fresh.privateKey, theirs),
      dh(initiator.privateKey, theirs),
      psk ?? zeros(32),
    );
    const sender = answer!.subarray(4, 8);
    const expected = bytesOf(2, sender, number(0x01020304), theirs, aead(half.key, 0n, zeros(0), half.hashed));
    assert.deepEqual(
      answer,
      Buffer.concat([expected, model.mac(model.hash("mac1----", initiator.publicKey), expected), zeros(16)]),
    );

    // Nothing is sent before the initiator has shown that it has the keys.
    device.output(packet("fd00::a", "fd00::b", "waits"));
    assert.equal(out.filter((datagram) => datagram[0] === 4).length, 0);
    const first = Buffer.from(packet("fd00::b", "fd00::a", "ping"));
    device.input(bytesOf(4, sender, number(0), number(0), aead(half.first, 0n, first, zeros(0))), "b");
    assert.deepEqual(inner, [first]);
    const sent = out.find((datagram) => datagram[0] === 4)!;
    assert.equal(sent.readUInt32LE(4), 0x01020304);
    const opened = unaead(half.second, sent.readBigUInt64LE(8), sent.subarray(16), zeros(0));
    assert.equal(opened.subarray(40, 45).toString(), "waits");
  });
}

test("another preshared key makes no session", () => {
  const [a, b] = [side(), side()];
  const clock = new ManualClock();
  const one = deviceOf(a.privateKey, clock);
  const two = deviceOf(b.privateKey, clock);
  one.device.addPeer({
    publicKey: b.publicKey,
    presharedKey: Buffer.alloc(32, 1),
    endpoint: "b",
    allowedIPs: ["fd00::b"],
  });
  two.device.addPeer({ publicKey: a.publicKey, presharedKey: Buffer.alloc(32, 2), allowedIPs: ["fd00::a"] });
  one.device.output(packet("fd00::a", "fd00::b", "x"));
  two.device.input(one.out[0]!, "a");
  one.device.input(two.out[0]!, "b");
  assert.equal(one.out.length, 1, "nothing follows the first message");
  assert.equal(one.device.peer(b.publicKey)?.lastHandshake, 0);
});
