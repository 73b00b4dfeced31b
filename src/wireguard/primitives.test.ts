import assert from "node:assert/strict";
import { createCipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { derive, hash, mac, open, openCookie, seal, sealCookie } from "./aead.ts";
import { agree, generatePrivateKey, privateObject, publicKeyOf, publicObject } from "./keys.ts";
import { readCounter, readUint32, writeCounter, writeUint32 } from "./messages.ts";
import { Session } from "./session.ts";
import { model, plainBlake2s } from "./testing.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const ascii = (text: string) => Buffer.from(text);

test("the two constants that every handshake starts from", () => {
  const construction = hash(ascii("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
  assert.equal(
    Buffer.from(construction).toString("hex"),
    "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36",
  );
  assert.equal(
    Buffer.from(hash(construction, ascii("WireGuard v1 zx2c4 Jason@zx2c4.com"))).toString("hex"),
    "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3",
  );
});

test("BLAKE2s: RFC 7693, keyed vectors, OpenSSL and the plain model agree", () => {
  const abc = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
  assert.equal(Buffer.from(hash(ascii("a"), ascii("bc"))).toString("hex"), abc);
  assert.equal(plainBlake2s(ascii("abc")).toString("hex"), abc);
  const key = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  // First and last of the reference's keyed vectors (input 0, 1, 2, …).
  assert.equal(
    plainBlake2s(Buffer.alloc(0), 32, key).toString("hex"),
    "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49",
  );
  const long = Buffer.from(Array.from({ length: 255 }, (_, index) => index));
  assert.equal(
    plainBlake2s(long, 32, key).toString("hex"),
    "3fb735061abc519dfe979e54c1ee5bfad0a9d858b3315bad34bde999efd724dd",
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes, secret) => {
      assert.deepEqual(Buffer.from(hash(bytes)), createHash("blake2s256").update(bytes).digest());
      assert.deepEqual(Buffer.from(mac(secret, bytes)), plainBlake2s(bytes, 16, secret));
    }),
  );
});

test("HKDF: equal to HMAC-BLAKE2s of OpenSSL, as RFC 5869 chains it", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.uint8Array({ maxLength: 32 }),
      fc.constantFrom(1, 2, 3),
      (chaining, input, count) => {
        const keys = derive(chaining, input, count as 1 | 2 | 3).map((key) => Buffer.from(key));
        assert.deepEqual(keys, model.kdf(chaining, input, count));
        const secret = createHmac("blake2s256", chaining).update(input).digest();
        assert.deepEqual(keys[0], createHmac("blake2s256", secret).update(Buffer.of(1)).digest());
      },
    ),
  );
});

test("X25519: RFC 7748 vectors, and a thousand rounds", () => {
  const shared = (scalar: string, point: string) =>
    Buffer.from(agree(privateObject(hex(scalar)), publicObject(hex(point)))!).toString("hex");
  assert.equal(
    shared(
      "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
      "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
    ),
    "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
  );
  assert.equal(
    shared(
      "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
      "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
    ),
    "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
  );
  let [k, u] = [`09${"00".repeat(31)}`, `09${"00".repeat(31)}`];
  for (let round = 0; round < 1000; round++) {
    [k, u] = [shared(k, u), k];
    if (round === 0) assert.equal(k, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
  }
  assert.equal(k, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
});

test("X25519: keys of low order agree with nobody", () => {
  const low = [
    "00".repeat(32),
    `01${"00".repeat(31)}`,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    `ec${"ff".repeat(30)}7f`,
    `ed${"ff".repeat(30)}7f`,
    `ee${"ff".repeat(30)}7f`,
  ];
  const ours = privateObject(generatePrivateKey());
  for (const point of low) assert.equal(agree(ours, publicObject(hex(point))), undefined, point);
});

test("private keys are clamped, and both sides of an agreement have the same secret", () => {
  for (let round = 0; round < 50; round++) {
    const [a, b] = [generatePrivateKey(), generatePrivateKey()];
    assert.equal(a[0]! & 7, 0);
    assert.equal(a[31]! & 0xc0, 0x40);
    const one = agree(privateObject(a), publicObject(publicKeyOf(b)));
    assert.ok(one);
    assert.deepEqual(one, agree(privateObject(b), publicObject(publicKeyOf(a))));
  }
});

test("XChaCha20-Poly1305: the vector of the draft, and nothing else opens", () => {
  const key = Buffer.from(Array.from({ length: 32 }, (_, index) => 0x80 + index));
  const nonce = Buffer.from(Array.from({ length: 24 }, (_, index) => 0x40 + index));
  const additional = hex("50515253c0c1c2c3c4c5c6c7");
  const plain = ascii(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const sealed = Buffer.from(sealCookie(key, nonce, plain, additional));
  assert.equal(
    sealed.toString("hex"),
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e" +
      "c0875924c1c7987947deafd8780acf49",
  );
  assert.deepEqual(Buffer.from(openCookie(key, nonce, sealed, additional)!), plain);
  for (let at = 0; at < sealed.length; at += 7) {
    const forged = Uint8Array.from(sealed);
    forged[at]! ^= 0x10;
    assert.equal(openCookie(key, nonce, forged, additional), undefined);
  }
  assert.equal(openCookie(key, nonce, sealed, hex("50")), undefined);
});

test("AEAD of the handshake: nonce of zeros, tag behind, and any changed bit refused", () => {
  const options = { authTagLength: 16 } as const;
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.uint8Array({ maxLength: 80 }),
      fc.uint8Array({ maxLength: 40 }),
      fc.nat(),
      (key, plain, additional, bit) => {
        const cipher = createCipheriv("chacha20-poly1305", key, Buffer.alloc(12), options);
        cipher.setAAD(additional, { plaintextLength: plain.length });
        const expected = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
        const sealed = Buffer.from(seal(key, plain, additional));
        assert.deepEqual(sealed, expected);
        assert.deepEqual(Buffer.from(open(key, sealed, additional)!), Buffer.from(plain));
        sealed[(bit >> 3) % sealed.length]! ^= 1 << (bit & 7);
        assert.equal(open(key, sealed, additional), undefined);
      },
    ),
  );
});

test("numbers of messages are little endian, counters to 2^53", () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.nat(8), (value, at) => {
      const bytes = Buffer.alloc(12);
      writeUint32(bytes, at, value);
      assert.equal(bytes.readUInt32LE(at), value);
      assert.equal(readUint32(bytes, at), value);
    }),
  );
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(value);
      const read = readCounter(bytes, 0);
      assert.equal(read, value < 2n ** 53n ? Number(value) : Number.POSITIVE_INFINITY);
      if (value < 2n ** 53n) {
        const back = Buffer.alloc(8);
        writeCounter(back, 0, read);
        assert.deepEqual(back, bytes);
      }
    }),
  );
});

test("transport: four zero bytes and the counter are the nonce, padding is zeros up to 16, never beyond the MTU", () => {
  const [send, receive] = [randomBytes(32), randomBytes(32)];
  const session = new Session({ send, receive }, 7, 0xa1b2c3d4, true, 0);
  const options = { authTagLength: 16 } as const;
  for (const [counter, length] of [0, 1, 15, 16, 17, 100, 1270, 1280, 1281, 1300].entries()) {
    const plain = randomBytes(length);
    const padded = length > 1280 ? length : Math.min(Math.ceil(length / 16) * 16, 1280);
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64LE(BigInt(counter), 4);
    const cipher = createCipheriv("chacha20-poly1305", send, nonce, options);
    const body = Buffer.concat([cipher.update(Buffer.concat([plain, Buffer.alloc(padded - length)])), cipher.final()]);
    const head = Buffer.alloc(16);
    head.writeUInt32LE(4, 0);
    head.writeUInt32LE(0xa1b2c3d4, 4);
    head.writeBigUInt64LE(BigInt(counter), 8);
    assert.deepEqual(Buffer.from(session.seal(plain, 1280)), Buffer.concat([head, body, cipher.getAuthTag()]));
  }
});

test("transport: a datagram of any counter below 2^52 opens once; from there on none", () => {
  const [send, receive] = [randomBytes(32), randomBytes(32)];
  const made = (counter: bigint) => {
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64LE(counter, 4);
    const cipher = createCipheriv("chacha20-poly1305", receive, nonce, { authTagLength: 16 });
    const head = Buffer.alloc(16, 0);
    head.writeUInt32LE(4, 0);
    head.writeBigUInt64LE(counter, 8);
    return Buffer.concat([head, cipher.update(ascii("payload")), cipher.final(), cipher.getAuthTag()]);
  };
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (counter) => {
      const session = new Session({ send, receive }, 0, 1, false, 0);
      const opened = session.open(made(counter));
      if (counter < 2n ** 52n) assert.equal(Buffer.from(opened!).toString(), "payload");
      else assert.equal(opened, undefined);
      assert.equal(session.open(made(counter)), undefined, "a second time");
    }),
  );
});
