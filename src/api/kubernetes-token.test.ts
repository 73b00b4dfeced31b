import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { SignJWT } from "jose";
import { PlaneKeyKind } from "#kinds/access/plane-key.ts";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import { ManualClock } from "#lib/clock.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { defaultTokenLifetime, KubernetesTokens, longestTokenLifetime } from "./kubernetes-token.ts";

const ada = { identity: "ada", cluster: "shop", groups: ["system:masters"] };
const refused = (error: unknown) =>
  error instanceof IchorError && error.code === "unauthenticated" && /get a new kubeconfig/.test(error.message);

function start() {
  const clock = new ManualClock();
  const persist = () => new Promise<void>((resolve) => setImmediate(resolve));
  const state = new State(new MemoryStore({ clock, persist }));
  return { clock, state, tokens: new KubernetesTokens(state, clock) };
}
const partsOf = (token: string) =>
  token
    .split(".")
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, "base64url").toString()));

test("a token says who, for which cluster and with which groups, until it expires", async () => {
  const { clock, state, tokens } = start();
  await state.create(ClusterUUIDKind, "shop", { uuid: "first" });
  const token = await tokens.sign(ada);
  assert.deepEqual(await tokens.verify(token), { ...ada, clusterUUID: "first" });
  // Another process with the same store reads it.
  assert.deepEqual(await new KubernetesTokens(state, clock).verify(token), { ...ada, clusterUUID: "first" });
  // The cluster's UUID is the token's, not today's: the proxy compares.
  await state.update(ClusterUUIDKind, "shop", ({ spec }) => {
    spec.uuid = "second";
  });
  assert.equal((await tokens.verify(token)).clusterUUID, "first");
  clock.advance(defaultTokenLifetime - 1000);
  await tokens.verify(token);
  clock.advance(1000);
  await assert.rejects(tokens.verify(token), refused);
});

test("a lifetime is bounded on both sides", async () => {
  const { clock, tokens } = start();
  for (const ttl of [0, -1, 999, longestTokenLifetime + 1, Number.NaN, Number.POSITIVE_INFINITY])
    await assert.rejects(tokens.sign(ada, ttl), (error) => codeOf(error) === "invalid_argument", String(ttl));
  const [short, long] = await Promise.all([tokens.sign(ada, 1000), tokens.sign(ada, longestTokenLifetime)]);
  clock.advance(1000);
  await assert.rejects(tokens.verify(short), refused);
  assert.equal((await tokens.verify(long)).identity, "ada");
});

test("its key is made once, however many ask first, and is kept sealed", async () => {
  const { clock, state } = start();
  const many = Array.from({ length: 5 }, () => new KubernetesTokens(state, clock));
  const tokens = await Promise.all(many.map((one) => one.sign(ada)));
  for (const token of tokens) for (const one of many) assert.equal((await one.verify(token)).cluster, "shop");
  assert.equal((await state.list(PlaneKeyKind)).length, 1);
  assert.equal(new Set(tokens.map((token) => partsOf(token)[0].kid)).size, 1);
});

test("another key, another algorithm, another issuer, another audience, missing claims: refused", async () => {
  const { clock, state, tokens } = start();
  const good = await tokens.sign(ada);
  const [header, claims] = partsOf(good);
  const pem = Buffer.from((await state.require(PlaneKeyKind, "kubernetes-token")).spec.data).toString();
  const other = generateKeyPairSync("ed25519").privateKey;
  const { createPrivateKey, createPublicKey } = await import("node:crypto");
  const own = createPrivateKey(pem);
  const make = (payload: object, key = own, alg = "EdDSA") =>
    new SignJWT({ ...payload }).setProtectedHeader({ ...header, alg }).sign(key);
  assert.equal((await tokens.verify(await make(claims))).identity, "ada");
  const without = (name: string) => Object.fromEntries(Object.entries(claims).filter(([key]) => key !== name));
  const bad = [
    await make(claims, other),
    await make({ ...claims, iss: "somebody" }),
    await make({ ...claims, aud: "talos" }),
    await make({ ...claims, cluster: 5 }),
    await make({ ...claims, groups: "system:masters" }),
    await make({ ...claims, groups: [1] }),
    await make({ ...claims, nbf: clock.now() / 1000 + 60 }),
    ...(await Promise.all(["iss", "aud", "sub", "exp", "cluster", "groups"].map((name) => make(without(name))))),
    // The public key, which anybody may know, as an HMAC secret.
    await new SignJWT(claims)
      .setProtectedHeader({ ...header, alg: "HS256" })
      .sign(Buffer.from(createPublicKey(own).export({ type: "spki", format: "pem" }))),
    `${Buffer.from(JSON.stringify({ ...header, alg: "none" })).toString("base64url")}.${good.split(".")[1]}.`,
  ];
  for (const [index, token] of bad.entries()) await assert.rejects(tokens.verify(token), refused, `number ${index}`);
});

test("any text, and any change of a good token, is refused in words that repeat nothing", async () => {
  const { tokens } = start();
  const good = await tokens.sign(ada);
  const edits = fc.tuple(fc.nat(good.length - 1), fc.constantFrom("", "A", ".", "=", "\u0000", "é", "AA"));
  const changed = edits.map(([at, text]) => good.slice(0, at) + text + good.slice(at + 1));
  const any = fc.oneof(
    changed,
    fc.string({ unit: "binary" }),
    fc.constantFrom("", ".", "..", "x".repeat(100_000), `${good}.x`),
  );
  await fc.assert(
    fc.asyncProperty(any, async (text) => {
      if (text === good) return;
      try {
        const identity = await tokens.verify(text);
        // The last character of a signature has bits that no decoder reads.
        assert.deepEqual([identity, text.slice(0, -1)], [ada, good.slice(0, -1)]);
      } catch (error) {
        assert.ok(refused(error), String(error));
      }
    }),
    { numRuns: 400 },
  );
});
