import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { SessionKind } from "#kinds/access/session.ts";
import { ManualClock } from "#lib/clock.ts";
import { codeOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import type { Store } from "#store/store.ts";
import { cookieName } from "./credential.ts";
import { codeLifetime, Sessions, sessionLifetime } from "./sessions.ts";

const hour = 3_600_000;
const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");
const bearer = (token: string) => (name: string) => (name === "authorization" ? `Bearer ${token}` : undefined);
const unauthenticated = (error: unknown) => codeOf(error) === "unauthenticated";

function start(wrap: (store: Store) => Store = (store) => store) {
  const clock = new ManualClock();
  const store = new MemoryStore({ clock, persist: () => new Promise((resolve) => setImmediate(resolve)) });
  const lines: string[] = [];
  const write = (facts: object, message: string) => void lines.push(`${message} ${JSON.stringify(facts)}`);
  const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };
  const state = new State(wrap(store));
  return { clock, store, lines, state: new State(store), sessions: new Sessions({ state, clock, log }) };
}

test("a sign-in code works once, also when many come with it at the same time", async () => {
  const { sessions, state } = start();
  const { token: code } = await sessions.createSignInCode("ada", "Admin");
  const tries = await Promise.allSettled(Array.from({ length: 20 }, () => sessions.signIn(code)));
  const won = tries.filter((one) => one.status === "fulfilled");
  assert.equal(won.length, 1);
  for (const lost of tries) if (lost.status === "rejected") assert.ok(unauthenticated(lost.reason));
  await assert.rejects(sessions.signIn(code), /used already or is too old: ask for a new one with `ichor signin`/);
  const [session] = won.map(({ value }) => value);
  const caller = await sessions.authenticate(bearer(session!.token));
  assert.deepEqual([caller?.identity, caller?.role], ["ada", "Admin"]);
  assert.equal((await state.list(SessionKind)).length, 1);
});

test("a code is no token, a token is no code, and neither is what nobody made", async () => {
  const { sessions } = start();
  const { token: code } = await sessions.createSignInCode("ada", "Admin");
  const { token } = await sessions.createToken("ada", "Admin", hour);
  await assert.rejects(sessions.authenticate(bearer(code)), unauthenticated);
  await assert.rejects(sessions.signIn(token), unauthenticated);
  await assert.rejects(sessions.signIn(""), unauthenticated);
  await assert.rejects(sessions.authenticate(bearer("A".repeat(43))), unauthenticated);
  // The hash that is stored opens nothing.
  await assert.rejects(sessions.signIn(hashOf(code)), unauthenticated);
  assert.equal(await sessions.authenticate(() => undefined), undefined);
});

test("codes, sessions and tokens end with their time, to the millisecond", async () => {
  const { clock, sessions } = start();
  const [early, late] = await Promise.all([
    sessions.createSignInCode("a", "Reader"),
    sessions.createSignInCode("b", "Reader"),
  ]);
  clock.advance(codeLifetime - 1);
  const session = await sessions.signIn(early.token);
  clock.advance(1);
  await assert.rejects(sessions.signIn(late.token), unauthenticated);
  assert.equal(session.expires, clock.now() - 1 + sessionLifetime);
  clock.advance(sessionLifetime - 2);
  assert.equal((await sessions.authenticate(bearer(session.token)))?.identity, "a");
  clock.advance(1);
  await assert.rejects(sessions.authenticate(bearer(session.token)), unauthenticated);
});

test("a session's end, by time or by sign-out, ends what is held open for it and nothing else", async () => {
  const { clock, sessions } = start();
  const hold = async (ttl: number) => {
    const { token } = await sessions.createToken("ada", "Reader", ttl);
    const caller = (await sessions.authenticate(bearer(token)))!;
    return { token, caller, holds: [sessions.hold(caller), sessions.hold(caller)] };
  };
  // Longer than a timer may wait.
  const long = await hold(60 * 24 * hour);
  const short = await hold(hour);
  const other = await hold(hour);
  const aborted = ({ holds }: typeof long) => holds.map(({ signal }) => signal.aborted);
  await sessions.signOut(short.caller.session);
  assert.deepEqual(
    [aborted(short), aborted(other)],
    [
      [true, true],
      [false, false],
    ],
  );
  assert.ok(short.holds.every(({ signal }) => unauthenticated(signal.reason)));
  await assert.rejects(sessions.authenticate(bearer(short.token)), unauthenticated);
  await sessions.signOut(short.caller.session);
  other.holds[0]?.release();
  clock.advance(hour);
  assert.deepEqual(
    [aborted(other), aborted(long)],
    [
      [false, true],
      [false, false],
    ],
  );
  for (let days = 0; days < 59; days++) clock.advance(24 * hour);
  assert.deepEqual(aborted(long), [false, false]);
  clock.advance(24 * hour);
  assert.deepEqual(aborted(long), [true, true]);
  for (const { holds } of [short, other, long]) for (const { release } of holds) release();
  assert.equal(clock.pending, 0);
});

test("only hashes are kept, and no token is in the log", async () => {
  const { clock, sessions, store, lines } = start();
  const made = [
    await sessions.createSignInCode("ada", "Admin"),
    await sessions.createToken("ada", "Admin", hour),
    await sessions.signIn((await sessions.createSignInCode("ada", "Admin")).token),
  ];
  clock.advance(hour / 2);
  for (const { token } of made) await sessions.authenticate(bearer(token)).catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  const { resources } = await store.list(SessionKind);
  const kept = JSON.stringify(resources.map(({ metadata, spec }) => [metadata, Buffer.from(spec).toString("latin1")]));
  for (const { token } of made) {
    for (const form of [token, Buffer.from(token).toString("base64"), Buffer.from(token, "base64url").toString("hex")])
      assert.ok(!kept.includes(form) && !lines.join().includes(form), "a token is kept in the clear");
    assert.ok(kept.includes(hashOf(token)));
  }
});

test("what has ended is removed at the next sign-in", async () => {
  const { clock, sessions, state } = start();
  for (let n = 0; n < 5; n++) await sessions.createToken("ada", "Reader", hour);
  clock.advance(hour);
  await sessions.createToken("ada", "Reader", hour);
  assert.equal((await state.list(SessionKind)).length, 1);
});

test("the last use is noted now and then, and a full disk keeps nobody out", async () => {
  let full = false;
  const { clock, sessions, state, lines } = start(
    (store) =>
      new Proxy(store, {
        get(target, name: keyof Store) {
          const method = (target[name] as (...args: unknown[]) => unknown).bind(target);
          return name === "update" && full ? async () => Promise.reject(new Error("disk full")) : method;
        },
      }),
  );
  const { token } = await sessions.createToken("ada", "Reader", 24 * hour);
  const use = async () => {
    assert.equal((await sessions.authenticate(bearer(token)))?.identity, "ada");
    for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve));
    return (await state.require(SessionKind, hashOf(token))).metadata.version;
  };
  assert.deepEqual([await use(), await use()], [1, 1]);
  clock.advance(hour);
  assert.deepEqual([await use(), await use()], [2, 2]);
  full = true;
  clock.advance(hour);
  assert.equal(await use(), 2);
  assert.match(lines.join(), /last use of a session not kept/);
});

test("a token in a file is kept while it has half of its life left, and stands for the same", async () => {
  const { clock, sessions } = start();
  const first = await sessions.ensureToken(undefined, "admin", "Admin", 10 * hour);
  assert.equal(await sessions.ensureToken(first, "admin", "Admin", 10 * hour), first);
  clock.advance(4 * hour);
  assert.equal(await sessions.ensureToken(first, "admin", "Admin", 10 * hour), first);
  assert.notEqual(await sessions.ensureToken(first, "other", "Admin", 10 * hour), first);
  assert.notEqual(await sessions.ensureToken(first, "admin", "Reader", 10 * hour), first);
  clock.advance(hour);
  const second = await sessions.ensureToken(first, "admin", "Admin", 10 * hour);
  assert.notEqual(second, first);
  for (const token of [first, second]) assert.equal((await sessions.authenticate(bearer(token)))?.role, "Admin");
  const { token: code } = await sessions.createSignInCode("admin", "Admin", 100 * hour);
  assert.notEqual(await sessions.ensureToken(code, "admin", "Admin", 10 * hour), code);
  for (const junk of ["", "x", "\u0000".repeat(100)])
    assert.match(await sessions.ensureToken(junk, "admin", "Admin", hour), /^[A-Za-z0-9_-]{43}$/);
});

test("a cookie of another site's page does not even tell whether the session is good", async () => {
  const { sessions } = start();
  const { token } = await sessions.createToken("ada", "Reader", hour);
  for (const text of [token, "A".repeat(43)])
    await assert.rejects(
      sessions.authenticate((name) => (name === "cookie" ? `${cookieName}=${text}` : undefined)),
      (error) => codeOf(error) === "permission_denied",
    );
});
