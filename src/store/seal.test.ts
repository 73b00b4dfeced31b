import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Code, codeOf } from "#lib/errors.ts";
import { createSeal } from "./seal.ts";

const seal = createSeal(new Uint8Array(32).fill(1));
const place = { namespace: "n", type: "t", id: "i" };
const has = (code: Code) => (error: unknown) => codeOf(error) === code;

test("what is sealed opens again, and no two seals look alike", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.string(), (plain, id) => {
      const at = { ...place, id };
      const sealed = seal.seal(plain, at);
      assert.deepEqual(seal.open(sealed, at), plain);
      assert.notDeepEqual(seal.seal(plain, at), sealed);
    }),
  );
});

test("it opens in its place only", () => {
  const sealed = seal.seal(Uint8Array.of(1, 2, 3), place);
  // Parts of the key must not run into one another.
  for (const elsewhere of [{ id: "j" }, { namespace: "nt", type: "" }, { type: "ti", id: "" }])
    assert.throws(() => seal.open(sealed, { ...place, ...elsewhere }), has("data_loss"));
});

test("a changed byte, a missing one and a foreign text are refused", () => {
  const sealed = seal.seal(Uint8Array.of(1, 2, 3), place);
  fc.assert(
    fc.property(fc.nat({ max: sealed.length - 1 }), fc.integer({ min: 1, max: 255 }), (index, flip) => {
      const changed = new Uint8Array(sealed);
      changed[index]! ^= flip;
      assert.throws(
        () => seal.open(changed, place),
        index >= 1 && index < 5 ? has("failed_precondition") : has("data_loss"),
      );
      assert.throws(() => seal.open(sealed.subarray(0, index), place), has("data_loss"));
    }),
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => assert.throws(() => seal.open(bytes, place))));
});

test("another key is told from damage, without telling a key", () => {
  const other = createSeal(new Uint8Array(32).fill(2));
  assert.notEqual(other.keyId, seal.keyId);
  assert.equal(createSeal(new Uint8Array(32).fill(1)).keyId, seal.keyId);
  assert.match(seal.keyId, /^[0-9a-f]{8}$/);
  assert.throws(() => other.open(seal.seal(Uint8Array.of(1), place), place), has("failed_precondition"));
  assert.throws(() => createSeal(new Uint8Array(31)), has("invalid_argument"));
});

test("a name stands for one place under one key, and tells nothing of it", () => {
  const name = seal.nameOf(place);
  assert.match(name, /^[A-Za-z0-9_-]{43}$/);
  assert.equal(createSeal(new Uint8Array(32).fill(1)).nameOf(place), name);
  const others = [{ id: "j" }, { namespace: "nt", type: "" }, { type: "ti", id: "" }];
  const names = others.map((elsewhere) => seal.nameOf({ ...place, ...elsewhere }));
  names.push(createSeal(new Uint8Array(32).fill(2)).nameOf(place), name);
  assert.equal(new Set(names).size, names.length);
});
