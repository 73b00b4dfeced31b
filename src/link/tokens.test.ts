import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { systemClock } from "#lib/clock.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import { parseHostPort, parseIP } from "#lib/ip.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { planeAddress, randomMachineAddress, randomVirtualAddress } from "./address.ts";
import { ensureDefaultToken } from "./default-token.ts";
import { isSignedBy, makeJoinToken, parseJoinToken } from "./join-token.ts";
import { KeyedMutex } from "./keyed-mutex.ts";
import { parseUniqueToken, printUniqueToken, sameHardware, sameToken } from "./unique-token.ts";

/** Texts that JSON writers differ about. */
const awkward = fc.oneof(
  fc.string(),
  fc.string({ unit: "binary" }),
  fc.constantFrom(
    "10",
    "9",
    "-1",
    "<a&b>",
    "\u2028\u2029",
    "\u0000\u001f\u007f",
    "ü",
    "😀",
    "__proto__",
    "constructor",
    '"\\',
  ),
);
const extras = fc
  .uniqueArray(fc.tuple(awkward, awkward), { selector: ([key]) => key, maxLength: 8 })
  .map((entries) => new Map(entries));

/** JSON of a map as Go's encoder writes it, one character at a time: keys in the order of their bytes. */
function goJson(map: ReadonlyMap<string, string>): string {
  const short: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f" };
  const quote = (text: string) => {
    let out = '"';
    for (const char of text) {
      const code = char.codePointAt(0)!;
      if (char === '"' || char === "\\") out += `\\${char}`;
      else if (short[char]) out += short[char];
      else if (code < 0x20 || "<>&\u2028\u2029".includes(char)) out += `\\u${code.toString(16).padStart(4, "0")}`;
      else out += code >= 0xd800 && code <= 0xdfff ? "\ufffd" : char;
    }
    return `${out}"`;
  };
  const keys = [...map.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return `{${keys.map((key) => `${quote(key)}:${quote(map.get(key)!)}`).join(",")}}`;
}

function sign(version: 1 | 2, key: string, extra: ReadonlyMap<string, string>): string {
  const signature = createHmac("sha256", key).update(goJson(extra)).digest("base64");
  const fields = [...extra].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  return `v${version}:${Buffer.from(`{"extra_data":{${fields}},"signature":"${signature}"}`).toString("base64")}`;
}

test("what a Go program signs is recognised, whatever the data; another key or any change is not", () => {
  fc.assert(
    fc.property(extras, fc.constantFrom(1 as const, 2 as const), (extra, version) => {
      const key = makeJoinToken();
      const token = parseJoinToken(sign(version, key, extra));
      assert.ok(token.kind === "signed");
      assert.equal(token.version, version);
      assert.deepEqual(new Map(Object.entries(token.extra)), extra);
      assert.equal(isSignedBy(token, key), true);
      assert.equal(isSignedBy(token, makeJoinToken()), false);
      assert.equal(isSignedBy({ ...token, extra: { ...token.extra, added: "x" } }, key), false);
      const signature = Uint8Array.from(token.signature);
      signature[5]! ^= 1;
      assert.equal(isSignedBy({ ...token, signature }, key), false);
      assert.equal(isSignedBy({ ...token, signature: token.signature.subarray(1) }, key), false);
    }),
    { numRuns: 500 },
  );
});

test("any text is a token or is refused; plain texts come back as they are", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.base64String().map((value) => `v1:${value}`),
    fc.json().map((value) => `v2:${Buffer.from(value).toString("base64")}`),
    fc.json().map((value) => `v1:${Buffer.from(`{"extra_data":${value},"signature":""}`).toString("base64")}`),
  );
  fc.assert(
    fc.property(text, (value) => {
      try {
        const token = parseJoinToken(value);
        if (token.kind === "plain") assert.equal(token.text, value);
        else for (const item of Object.values(token.extra)) assert.equal(typeof item, "string");
      } catch (error) {
        assert.ok(error instanceof IchorError);
        assert.equal(error.code, "permission_denied");
        assert.equal(error.message, "unauthorized");
      }
    }),
    { numRuns: 1000 },
  );
});

test("new join tokens: base62 of at least 43 characters, never the same", () => {
  const made = Array.from({ length: 500 }, makeJoinToken);
  for (const token of made) {
    assert.match(token, /^[0-9A-Za-z]{43,51}$/);
    assert.deepEqual(parseJoinToken(token), { kind: "plain", text: token });
  }
  assert.equal(new Set(made).size, made.length);
});

test("unique tokens: printed and read, compared by token, hardware by fingerprint that is not empty", () => {
  const token = fc.record({
    fingerprint: fc.string({ maxLength: 80 }),
    token: fc.string({ minLength: 1, maxLength: 80 }),
  });
  fc.assert(
    fc.property(token, token, (a, b) => {
      assert.deepEqual(parseUniqueToken(printUniqueToken(a)), { ...a });
      assert.equal(sameToken(a, b), a.token === b.token);
      assert.equal(sameToken(a, { ...b, token: a.token }), true);
      assert.equal(sameHardware(a, b), a.fingerprint !== "" && a.fingerprint === b.fingerprint);
      assert.equal(sameHardware({ ...a, fingerprint: "" }, { ...b, fingerprint: "" }), false);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
      try {
        assert.ok(parseUniqueToken(text).token.length > 0);
      } catch (error) {
        assert.equal(codeOf(error), "permission_denied");
      }
    }),
  );
});

test("addresses: canonical, in their prefix, with random hosts", () => {
  assert.equal(planeAddress, "fdae:41e4:649b:9303::1");
  const machines = new Set<string>();
  for (let count = 0; count < 1000; count++) {
    const address = randomMachineAddress();
    machines.add(address);
    assert.equal(Buffer.from(parseIP(address).subarray(0, 8)).toString("hex"), "fdae41e4649b9303");
    const { host, port } = parseHostPort(randomVirtualAddress());
    assert.equal(Buffer.from(parseIP(host).subarray(0, 8)).toString("hex"), "fdae41e4649b9304");
    assert.equal(port, 50_889);
  }
  assert.equal(machines.size, 1000);
});

test("the default token is made once, and what users made of it stays", async () => {
  const state = new State(new MemoryStore({ clock: systemClock }));
  await Promise.all(Array.from({ length: 10 }, () => ensureDefaultToken(state)));
  const { tokenId } = (await state.require(DefaultJoinTokenKind, "default")).spec;
  assert.match(tokenId, /^[0-9A-Za-z]{43,51}$/);
  assert.ok(await state.get(JoinTokenKind, tokenId), "the default names a token that exists");
  assert.equal((await state.require(DefaultJoinTokenKind, "default")).metadata.owner, "");
  const other = makeJoinToken();
  await state.create(JoinTokenKind, other, { name: "mine" });
  await state.update(DefaultJoinTokenKind, "default", ({ spec }) => {
    spec.tokenId = other;
  });
  const before = (await state.list(JoinTokenKind)).length;
  await ensureDefaultToken(state);
  assert.equal((await state.require(DefaultJoinTokenKind, "default")).spec.tokenId, other);
  assert.equal((await state.list(JoinTokenKind)).length, before);
});

test("work with one key runs one after the other, with different keys at once, and a failure stops nobody", async () => {
  const mutex = new KeyedMutex();
  const running = new Map<string, number>();
  let most = 0;
  const jobs = Array.from({ length: 60 }, (_, index) => {
    const key = `k${index % 3}`;
    return mutex.run(key, async () => {
      running.set(key, (running.get(key) ?? 0) + 1);
      assert.equal(running.get(key), 1);
      most = Math.max(
        most,
        [...running.values()].reduce((sum, count) => sum + count, 0),
      );
      await new Promise((resolve) => setImmediate(resolve));
      running.set(key, 0);
      if (index % 7 === 0) throw new Error(`${index}`);
      return index;
    });
  });
  for (const [index, result] of (await Promise.allSettled(jobs)).entries()) {
    if (index % 7 === 0) assert.equal(result.status, "rejected");
    else assert.deepEqual(result, { status: "fulfilled", value: index });
  }
  assert.equal(most, 3);
});
