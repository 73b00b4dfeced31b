import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { withAuthority } from "./authority.ts";
import { codeOf, IchorError, messageOf } from "./errors.ts";

test("whatever a caller sends as authority, a URL can be made of what the handler sees; good ones stay", () => {
  const text = fc.oneof(
    fc.string(),
    fc.domain(),
    fc.ipV6().map((ip) => `[${ip}]:1`),
    fc.ipV6(),
    fc.constantFrom("", "a b", "[", "%zz", "x:99999", "@", "/", "?", "#"),
  );
  fc.assert(
    fc.property(fc.option(text, { nil: undefined }), fc.option(text, { nil: undefined }), (authority, host) => {
      const headers: Record<string, string | undefined> = { ":authority": authority, host };
      let seen = 0;
      withAuthority((request: { headers: Record<string, string | undefined> }) => {
        seen++;
        for (const [name, before] of [
          [":authority", authority],
          ["host", host],
        ] as const) {
          const now = request.headers[name];
          if (before === undefined) assert.equal(now, undefined);
          else {
            new URL("/x.Y/Z", `http://${now}`);
            if (URL.canParse("/", `http://${before}`)) assert.equal(now, before);
          }
        }
      })({ headers }, undefined);
      assert.equal(seen, 1);
    }),
    { numRuns: 500 },
  );
});

test("words and codes of whatever is thrown", () => {
  const error = new IchorError("not_found", "no such thing", { cause: "for the log" });
  assert.equal(codeOf(error), "not_found");
  assert.equal(messageOf(error), "no such thing");
  assert.equal(error.cause, "for the log");
  for (const thrown of [new Error("x"), "x", undefined, null, 5, {}, Object.create(null) as object]) {
    assert.equal(codeOf(thrown), "unknown");
    assert.equal(typeof messageOf(thrown), "string");
  }
});
