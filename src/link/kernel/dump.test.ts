import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { IchorError } from "#lib/errors.ts";
import { formatHostPort } from "#lib/ip.ts";
import { type Dump, parseDump } from "./dump.ts";

const someKey = () => randomBytes(32).toString("base64");
const secret = someKey();
const own = (port: number | string) => [secret, someKey(), port, "off"].join("\t");
const line = (of: Dump["peers"][number]) => {
  const { key, endpoint, handshake } = of;
  const where = endpoint ? formatHostPort(endpoint.host, endpoint.port) : "(none)";
  return [key, "(none)", where, "fdae:41e4:649b:9303::5/128", handshake, 148, 92, 25].join("\t");
};

const peers = fc.array(
  fc.record(
    {
      key: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("base64")),
      endpoint: fc.record({
        host: fc.oneof(fc.ipV4(), fc.ipV6(), fc.constant("fe80::1%eth0")),
        port: fc.nat({ max: 65_535 }),
      }),
      handshake: fc.nat(),
    },
    { requiredKeys: ["key", "handshake"] },
  ),
);

test("whatever an interface is, its dump is read back", () => {
  fc.assert(
    fc.property(fc.nat({ max: 65_535 }), peers, (port, all) => {
      const text = [own(port), ...all.map(line), ""].join("\n");
      assert.deepEqual(structuredClone(parseDump(text)), structuredClone({ port, peers: all }));
    }),
  );
});

/** Either a whole answer or words that say where, without the text itself. */
function holds(text: string): void {
  try {
    const { port, peers: all } = parseDump(text);
    assert.ok(Number.isInteger(port) && port >= 0 && port <= 65_535);
    for (const one of all) {
      assert.equal(Buffer.from(one.key, "base64").length, 32);
      assert.ok(Number.isSafeInteger(one.handshake) && one.handshake >= 0);
      assert.ok(!one.endpoint || one.endpoint.port <= 65_535);
    }
  } catch (error) {
    assert.ok(error instanceof IchorError, String(error));
    assert.match(error.message, /^cannot read what wg says of the interface: line \d+ has [a-z0-9, ]+$/);
    assert.ok(!error.message.includes(secret));
  }
}

test("any text gives peers or a clear error", () => {
  const bytes = fc.uint8Array({ maxLength: 400 }).map((all) => Buffer.from(all).toString("utf8"));
  fc.assert(fc.property(bytes, holds), { numRuns: 500 });
  const cell = fc.oneof(fc.string(), fc.constantFrom(secret, "(none)", "off", "0", "-1", "1e3", "[::1]:7", "a:1", ""));
  const table = fc
    .array(fc.array(cell, { maxLength: 9 }).map((cells) => cells.join("\t")))
    .map((all) => all.join("\n"));
  fc.assert(fc.property(table, holds), { numRuns: 300 });
});

test("a dump that was cut or changed anywhere gives peers or a clear error", () => {
  const whole = [own(50_180), line({ key: someKey(), endpoint: { host: "::1", port: 9 }, handshake: 1 }), ""].join(
    "\n",
  );
  const at = fc.nat({ max: whole.length });
  fc.assert(
    fc.property(at, at, fc.string({ maxLength: 3 }), (from, to, put) => {
      holds(whole.slice(0, Math.min(from, to)) + put + whole.slice(Math.max(from, to)));
    }),
    { numRuns: 500 },
  );
});

test("an interface without a port or with a peer that has no key is not taken for one", () => {
  const bad = /line 1 has a port that is no number/;
  assert.throws(() => parseDump(own("-1")), bad);
  assert.throws(() => parseDump(own("65536")), bad);
  assert.throws(() => parseDump(""), /line 1 has 1 fields, not 4/);
  assert.throws(() => parseDump(`${own(1)}\n\n`), /line 2 has 1 fields, not 8/);
  const text = `${own(1)}\n${line({ key: "short", handshake: 0 })}`;
  assert.throws(() => parseDump(text), /line 2 has no public key/);
});
