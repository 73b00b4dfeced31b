import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { codeOf, IchorError } from "#lib/errors.ts";
import { cookieName, isSameOrigin, readCredential, sessionCookie } from "./credential.ts";

const token = `${"A".repeat(42)}-`;
const headers =
  (all: Readonly<Record<string, string>>) =>
  (name: string): string | undefined =>
    all[name];
const own = { "sec-fetch-site": "same-origin" };

function refused(all: Readonly<Record<string, string>>, code: string, words: RegExp): void {
  assert.throws(
    () => readCredential(headers(all)),
    (error) => error instanceof IchorError && error.code === code && words.test(error.message),
    JSON.stringify(all),
  );
}

test("a bearer token counts before a cookie, whatever the scheme's case", () => {
  const cookie = `${cookieName}=${"B".repeat(43)}`;
  for (const authorization of [`Bearer ${token}`, `bearer   ${token}`, `BEARER ${token}`])
    assert.deepEqual(readCredential(headers({ authorization, cookie, ...own })), { token, from: "header" });
  assert.equal(readCredential(headers({})), undefined);
  assert.equal(readCredential(headers({ cookie: "other=1; __Host-ichor2=x" })), undefined);
});

test("what is no token of ours is refused, and not taken for nobody", () => {
  for (const authorization of [
    "",
    "Bearer",
    "Bearer ",
    `Basic ${token}`,
    `Bearer ${token}x`,
    `Bearer ${token} x`,
    token,
  ])
    refused({ authorization }, "unauthenticated", /not a token of this plane/);
  // A wrong header is not made good by a cookie.
  refused({ authorization: "Basic x", cookie: `${cookieName}=${token}`, ...own }, "unauthenticated", /not a token/);
  for (const cookie of [`${cookieName}=`, `${cookieName}=x`, `${cookieName}="${token}"`, `${cookieName}=${token}=`])
    refused({ cookie, ...own }, "unauthenticated", /sign in again/);
});

test("a cookie counts only on requests that a page of this origin makes", () => {
  const cookie = `a=b; ${cookieName}=${token} ; c=d`;
  const at = { host: "plane.example:8443" };
  for (const good of [
    own,
    { ...at, origin: "https://plane.example:8443" },
    { ...at, origin: "https://PLANE.example:8443" },
  ])
    assert.deepEqual(readCredential(headers({ cookie, ...good })), { token, from: "cookie" });
  for (const bad of [
    {},
    at,
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "none" },
    // What the browser says counts, not an origin besides.
    { "sec-fetch-site": "cross-site", ...at, origin: "https://plane.example:8443" },
    { ...at, origin: "http://plane.example:8443" },
    { ...at, origin: "https://plane.example" },
    { ...at, origin: "https://plane.example:8443.evil.example" },
    { ...at, origin: "null" },
  ])
    refused({ cookie, ...bad }, "permission_denied", /page of another site/);
});

test("any headers give a token of the right form, nobody, or an error that repeats none of it", () => {
  const piece = fc.oneof(
    fc.string(),
    fc.string({ unit: "binary" }),
    fc.constantFrom("Bearer ", "bearer\t", `${cookieName}=`, ";", "=", token, token.slice(1), "\u0000", " "),
  );
  const text = fc.array(piece, { maxLength: 6 }).map((parts) => parts.join(""));
  const names = ["authorization", "cookie", "origin", "host", "sec-fetch-site"];
  const any = fc.record(Object.fromEntries(names.map((name) => [name, text])), { requiredKeys: [] });
  fc.assert(
    fc.property(any, (all) => {
      const given = all as Record<string, string>;
      try {
        const found = readCredential(headers(given));
        if (found) assert.match(found.token, /^[A-Za-z0-9_-]{43}$/);
        else assert.ok(given.authorization === undefined);
        if (found?.from === "cookie") assert.ok(isSameOrigin(headers(given)));
      } catch (error) {
        assert.ok(codeOf(error) === "unauthenticated" || codeOf(error) === "permission_denied", String(error));
        const { message } = error as Error;
        assert.ok(message.length > 20 && !message.includes(token));
      }
    }),
    { numRuns: 500 },
  );
});

test("the cookie is out of the reach of scripts, other sites and plain HTTP", () => {
  const parts = sessionCookie(token, Date.UTC(2026, 0, 8)).split("; ");
  assert.deepEqual(parts, [
    `${cookieName}=${token}`,
    "Path=/",
    "Expires=Thu, 08 Jan 2026 00:00:00 GMT",
    "HttpOnly",
    "Secure",
    "SameSite=Strict",
  ]);
  assert.match(cookieName, /^__Host-/);
  assert.match(sessionCookie(), /^__Host-ichor=; .*Expires=Thu, 01 Jan 1970/);
});
