import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IchorError } from "#lib/errors.ts";
import { bearerOf, refusalOf, requestHeaders, responseHeaders } from "./kubernetes-status.ts";

const names = fc.oneof(
  fc.constantFrom(
    ...["authorization", "cookie", "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-a"],
    ...["x-remote-user", "x-remote-extra-a", "connection", "upgrade", "te", "transfer-encoding", ":path", "host"],
    ...["accept", "content-type", "user-agent", "x-stream-protocol-version", "audit-id"],
  ),
  fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/),
);
const kept = new Set(["accept", "content-type", "user-agent", "x-stream-protocol-version", "audit-id"]);

test("no header of the caller's identity or connection goes through, and those that matter do", () => {
  const caller = { identity: "ann", groups: ["a", "b"] };
  fc.assert(
    fc.property(fc.dictionary(names, fc.string()), fc.option(names, { nil: undefined }), (headers, named) => {
      const given = { ...headers, ...(named ? { connection: `close, ${named}` } : {}) };
      const sent = requestHeaders(given, caller);
      for (const name of Object.keys(sent).filter((name) => name === name.toLowerCase())) {
        assert.doesNotMatch(name, /^(:|authorization$|cookie$|impersonate-|x-remote-|connection$|upgrade$|te$|host$)/);
        assert.notEqual(name, named);
      }
      for (const name of Object.keys(headers)) {
        if (kept.has(name) && name !== named && !(headers.connection ?? "").includes(name))
          assert.equal(sent[name], headers[name]);
      }
      assert.equal(sent["Impersonate-User"], "ann");
      assert.deepEqual(sent["Impersonate-Group"], ["a", "b"]);
      assert.equal(responseHeaders({ ...headers, "set-cookie": ["a=b"] })["set-cookie"], undefined);
    }),
  );
});

test("identities that would break a header are refused", () => {
  for (const identity of ["a\r\nImpersonate-Group: system:masters", "a\0", "a\x7f"])
    assert.throws(() => requestHeaders({}, { identity, groups: [] }), { code: "invalid_argument" });
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (identity) => {
      try {
        const value = requestHeaders({}, { identity, groups: [] })["Impersonate-User"] as string;
        assert.match(value, /^[\x20-\x7e\x80-\xff]*$/);
      } catch (error) {
        assert.ok(error instanceof IchorError);
      }
    }),
  );
});

test("bearer tokens are read from header or subprotocol", () => {
  assert.equal(bearerOf({ authorization: "Bearer abc" }), "abc");
  assert.equal(bearerOf({ authorization: "bearer  abc" }), "abc");
  assert.equal(bearerOf({ authorization: "Basic abc" }), undefined);
  assert.equal(bearerOf({ authorization: "Bearer a b" }), undefined);
  assert.equal(bearerOf({}), undefined);
});

test("failures that are not ours keep their words to themselves", () => {
  const { status, body } = refusalOf(new Error("secret"));
  assert.equal(status, 500);
  assert.ok(!body.includes("secret"));
  assert.equal(refusalOf(new IchorError("resource_exhausted", "many")).status, 429);
});
