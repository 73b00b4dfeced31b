import assert from "node:assert/strict";
import { isIP } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { codeOf } from "./errors.ts";
import { canonicalIP, formatHostPort, formatIP, parseHostPort, parseIP } from "./ip.ts";

const address = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
);
/** 16 bytes with many zeros: where the short form has choices. */
const sparse = fc
  .array(fc.constantFrom(0, 0, 0, 1, 255, 16), { minLength: 16, maxLength: 16 })
  .map((bytes) => Uint8Array.from(bytes));

test("bytes to text and back, and the text is the one of RFC 5952", () => {
  fc.assert(
    fc.property(fc.oneof(address, sparse), (bytes) => {
      const text = formatIP(bytes);
      assert.deepEqual(parseIP(text), bytes);
      assert.equal(canonicalIP(text), text);
      assert.equal(text, text.toLowerCase());
      assert.equal(isIP(text), bytes.length === 4 ? 4 : 6);
      // The platform's own form of an address, where it is not one of IPv4 in IPv6.
      const mapped = bytes.length === 16 && bytes.subarray(0, 10).every((byte) => byte === 0);
      if (bytes.length === 16 && !mapped) assert.equal(`[${text}]`, new URL(`http://[${text}]`).hostname);
    }),
    { numRuns: 500 },
  );
});

test("all ways to write an address are one", () => {
  for (const text of ["FDAE:41E4:649B:9303:0:0:0:1", "fdae:41e4:649b:9303::1", "fdae:41e4:649b:9303:0000::0001"])
    assert.equal(canonicalIP(text), "fdae:41e4:649b:9303::1");
  assert.equal(canonicalIP("::ffff:192.0.2.1"), canonicalIP("::ffff:c000:201"));
  assert.equal(canonicalIP("192.0.2.1"), "192.0.2.1");
});

test("what the platform takes for no address is refused, and nothing else", () => {
  const text = fc.oneof(
    fc.string(),
    fc.stringMatching(/^[0-9a-f:.]{1,20}$/),
    fc.stringMatching(/^[0-9]{1,4}(\.[0-9]{1,4}){0,4}$/),
    fc.ipV4(),
    fc.ipV6(),
    fc.ipV4Extended(),
  );
  fc.assert(
    fc.property(text, (value) => {
      let length = 0;
      try {
        length = parseIP(value).length;
      } catch (error) {
        assert.equal(codeOf(error), "invalid_argument");
      }
      assert.equal(length, { 0: 0, 4: 4, 6: 16 }[isIP(value)], value);
    }),
    { numRuns: 2000 },
  );
  for (const value of [
    "1",
    "127.1",
    "0x7f.0.0.1",
    "010.0.0.1",
    "1.2.3",
    "fe80::1%eth0",
    "[::1]",
    "::1/64",
    "",
    " ::1",
    "1.2.3.4 ",
  ])
    assert.throws(() => parseIP(value), { code: "invalid_argument" }, value);
});

test("bytes of other lengths are none", () => {
  for (const length of [0, 3, 5, 15, 17])
    assert.throws(() => formatIP(new Uint8Array(length)), { code: "invalid_argument" });
});

test("host and port, there and back", () => {
  const host = fc.oneof(fc.domain(), address.map(formatIP));
  fc.assert(
    fc.property(host, fc.nat(65_535), (name, port) => {
      assert.deepEqual(parseHostPort(formatHostPort(name, port)), { host: name, port });
    }),
  );
  for (const text of [
    "",
    "host",
    ":1",
    "host:",
    "host:65536",
    "host:123456",
    "::1:80",
    "[::1]",
    "[::1]:",
    "[]:1",
    "host:-1",
    "host:1x",
    "host: 1",
  ])
    assert.throws(() => parseHostPort(text), { code: "invalid_argument" }, text);
});
