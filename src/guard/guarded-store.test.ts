import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ClusterSpecSchema, ConfigPatchSpecSchema } from "#gen/specs/specs_pb.ts";
import { SessionKind } from "#kinds/access/session.ts";
import { allKinds, kindOf } from "#kinds/all.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { annotation, label } from "#kinds/labels.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { ManualClock } from "#lib/clock.ts";
import { type Code, codeOf, IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { AnyKind, Role } from "#resource/kind.ts";
import { type Metadata, newMetadata } from "#resource/resource.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import type { Stored } from "#store/store.ts";
import { GuardedStore, type GuardOptions } from "./guarded-store.ts";
import { anyMessage, anyText, someone } from "./testing.ts";

/** Writes become durable on a later turn, as on a disk. */
const laterTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

function start(options: Partial<GuardOptions> = {}, persist: () => Promise<void> = laterTurn) {
  const store = new MemoryStore({ clock: new ManualClock(), persist });
  const lines: string[] = [];
  const write = (facts: object, message: string) => void lines.push(`${message} ${JSON.stringify(facts)}`);
  const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };
  const as = (role?: Role) =>
    new GuardedStore(store, role && someone(role), { log, kindOf, validate: () => [], ...options });
  return { store, lines, as, user: as("Operator"), state: new State(store), plane: new State(store, "plane") };
}

const versions = toBinary(ClusterSpecSchema, create(ClusterSpecSchema, { talosVersion: "1.13.9" }));
function stored(
  kind: AnyKind,
  id: string,
  extra: Partial<Metadata> = {},
  spec = kind === ClusterKind ? versions : new Uint8Array(),
): Stored {
  return { metadata: newMetadata(kind.key(id), extra), spec };
}
function changed(from: Stored, metadata: Partial<Metadata>, spec = from.spec): Stored {
  return { metadata: { ...from.metadata, ...metadata }, spec };
}
async function refused(what: Promise<unknown>, code: Code, words: RegExp): Promise<void> {
  await assert.rejects(what, (error) => {
    assert.ok(error instanceof IchorError, String(error));
    assert.deepEqual([error.code, words.test(error.message)], [code, true], error.message);
    return true;
  });
}

test("nobody is told to sign in before anything else is looked at", async () => {
  const { as } = start();
  const nobody = as();
  for (const key of [ClusterKind.key("a"), { namespace: "x", type: "Nothing.test", id: "a" }]) {
    await refused(nobody.get(key), "unauthenticated", /sign in first/);
    await refused(nobody.list(key), "unauthenticated", /sign in first/);
    await refused(nobody.create({ metadata: newMetadata(key), spec: versions }), "unauthenticated", /sign in/);
    await refused(nobody.update({ metadata: newMetadata(key), spec: versions }), "unauthenticated", /sign in/);
    await refused(nobody.teardown(key), "unauthenticated", /sign in/);
    await refused(nobody.destroy(key), "unauthenticated", /sign in/);
    assert.throws(() => nobody.watch(key, { from: "now", signal: AbortSignal.abort() }), /sign in first/);
  }
});

test("unknown types and wrong namespaces are told; what may not be seen is not told to exist", async () => {
  const { as, plane } = start();
  const admin = as("Admin");
  await refused(
    admin.get({ namespace: "default", type: "Nothing.test", id: "a" }),
    "not_found",
    /no type "Nothing\.test"/,
  );
  await refused(
    admin.list({ namespace: "elsewhere", type: ClusterKind.type }),
    "not_found",
    /Clusters\.omni\.sidero\.dev are in the namespace "default"/,
  );
  await plane.create(SessionKind, "known", {});
  for (const id of ["known", "unknown"]) {
    await refused(admin.get(SessionKind.key(id)), "permission_denied", /shown to nobody/);
    await refused(admin.destroy(SessionKind.key(id)), "permission_denied", /shown to nobody/);
  }
  const reader = as("Reader");
  await refused(reader.update(stored(ClusterKind, "none")), "permission_denied", /needs the role Operator/);
  await refused(admin.get(ClusterKind.key("none")), "not_found", /Clusters.* "none" does not exist/);
});

test("what a user writes is a user's: owner, version and times are not theirs to choose", async () => {
  const { user } = start();
  const given = { version: 77, created: 5, updated: 6, labels: { a: "1" }, annotations: { b: "2" } };
  const { metadata } = await user.create(stored(ClusterKind, "a", given));
  assert.deepEqual(
    [metadata.version, metadata.owner, metadata.labels, metadata.annotations],
    [1, "", { a: "1" }, { b: "2" }],
  );
  assert.notEqual(metadata.created, 5);
  await refused(
    user.create(stored(ClusterKind, "b", { owner: "cluster" })),
    "permission_denied",
    /what the plane owns/,
  );
  await refused(user.create(stored(ClusterKind, "b", { finalizers: ["x"] })), "permission_denied", /finalizers/);
  await refused(user.create(stored(ClusterKind, "b", { phase: "tearingDown" })), "invalid_argument", /is running/);
  await refused(user.create(stored(ClusterKind, "a")), "already_exists", /already exists/);
  await refused(user.create(stored(ClusterStatusKind, "a")), "permission_denied", /written by the plane alone/);
});

test("finalizers are the plane's, on any resource", async () => {
  const { user, state } = start();
  await user.create(stored(ClusterKind, "a"));
  await state.addFinalizer(ClusterKind.key("a"), "cluster-status");
  const current = await user.get(ClusterKind.key("a"));
  for (const finalizers of [[], ["cluster-status", "mine"], ["mine"]]) {
    await refused(
      user.update(changed(current, { finalizers })),
      "permission_denied",
      /finalizers are set by the plane/,
    );
    await refused(
      user.update(changed(current, { finalizers, phase: "tearingDown" })),
      "permission_denied",
      /finalizers are set/,
    );
  }
  assert.equal(await user.teardown(ClusterKind.key("a")), false);
  await refused(user.destroy(ClusterKind.key("a")), "failed_precondition", /still held by cluster-status/);
  await state.removeFinalizer(ClusterKind.key("a"), "cluster-status");
  assert.equal(await user.teardown(ClusterKind.key("a")), true);
  await user.destroy(ClusterKind.key("a"));
  await refused(user.get(ClusterKind.key("a")), "not_found", /does not exist/);
});

test("teardown cannot be taken back, and asked for by an update changes nothing else", async () => {
  const { user, state } = start();
  const made = await user.create(stored(ClusterKind, "a", { labels: { kept: "yes" } }));
  await state.addFinalizer(ClusterKind.key("a"), "holder");
  const held = await user.get(ClusterKind.key("a"));
  const junk = Uint8Array.of(0xff, 0xff, 0xff);
  const asked = changed(held, { phase: "tearingDown", labels: { [label.systemPatch]: "" } }, junk);
  const leaving = await user.update(asked);
  assert.equal(leaving.metadata.phase, "tearingDown");
  assert.deepEqual([leaving.metadata.labels, leaving.spec], [made.metadata.labels, made.spec]);
  await refused(user.update(changed(leaving, { phase: "running" })), "invalid_argument", /cannot be taken back/);
  // All of a kind can still be read.
  assert.equal((await state.list(ClusterKind)).length, 1);
});

test("a change is judged by what it changes: another version is a conflict, also one that is on its way to the disk", async () => {
  const busy = Promise.withResolvers<void>();
  let hold: Promise<void> | undefined;
  const { user, state, store } = start({}, async () => {
    if (hold) busy.resolve();
    await (hold ?? laterTurn());
  });
  const made = await user.create(stored(ClusterKind, "a"));
  for (const version of [0, 2, 99])
    await refused(user.update(changed(made, { version })), "failed_precondition", /changed meanwhile \(version 1/);
  // The first write makes version 2 in a moment. What is built on it before anybody saw it must not pass unseen.
  const disk = Promise.withResolvers<void>();
  hold = disk.promise;
  const first = user.update(changed(made, { labels: { step: "one" } }));
  await busy.promise;
  const hidden = changed(made, { version: 2, finalizers: ["mine"], labels: { [label.systemPatch]: "" } });
  const second = user.update({ ...hidden, spec: Uint8Array.of(0xff, 0xff) });
  second.catch(() => {});
  await laterTurn();
  disk.resolve();
  await refused(second, "failed_precondition", /changed meanwhile/);
  await first;
  const after = await state.require(ClusterKind, "a");
  assert.deepEqual([after.metadata.labels, after.metadata.finalizers], [{ step: "one" }, []]);
  assert.equal((await store.get(ClusterKind.key("a")))?.metadata.version, 2);
});

test("what the plane wrote is the plane's; what may be forgotten may be", async () => {
  const { user, as, plane } = start();
  await plane.create(LinkKind, "machine", { nodePublicKey: "key" });
  const link = await user.get(LinkKind.key("machine"));
  await refused(user.update(changed(link, { labels: { a: "b" } })), "permission_denied", /written by the plane alone/);
  await refused(as("Reader").teardown(LinkKind.key("machine")), "permission_denied", /needs the role Operator/);
  assert.equal(await user.teardown(LinkKind.key("machine")), true);
  await user.destroy(LinkKind.key("machine"));
  // Of a kind that users write, but this one is the plane's own.
  await plane.create(ConfigPatchKind, "system", {}, { labels: { [label.cluster]: "a" } });
  const patch = await user.get(ConfigPatchKind.key("system"));
  await refused(user.update(patch), "permission_denied", /belongs to the plane/);
  await refused(user.teardown(ConfigPatchKind.key("system")), "permission_denied", /belongs to the plane/);
  await refused(user.destroy(ConfigPatchKind.key("system")), "permission_denied", /belongs to the plane/);
});

test("the label of system patches can be neither put on nor taken off", async () => {
  const { user, state } = start();
  const system = { [label.systemPatch]: "" };
  await refused(user.create(stored(ConfigPatchKind, "a", { labels: system })), "permission_denied", /plane's own/);
  const mine = await user.create(stored(ConfigPatchKind, "b"));
  await refused(user.update(changed(mine, { labels: system })), "permission_denied", /plane's own/);
  await state.create(ConfigPatchKind, "c", {}, { labels: system });
  const theirs = await user.get(ConfigPatchKind.key("c"));
  await refused(user.update(changed(theirs, { labels: {} })), "permission_denied", /plane's own/);
  await refused(user.destroy(ConfigPatchKind.key("c")), "permission_denied", /plane's own/);
});

test("a locked cluster refuses changes to itself and to what belongs to it, until it is unlocked", async () => {
  const { user } = start();
  const of = { labels: { [label.cluster]: "shop" } };
  const open = await user.create(stored(ClusterKind, "shop"));
  const patch = await user.create(stored(ConfigPatchKind, "patch", of));
  const free = await user.create(stored(ConfigPatchKind, "free"));
  const locked = await user.update(changed(open, { annotations: { [annotation.clusterLocked]: "" } }));
  const words = /cluster "shop" is locked: remove its annotation omni\.sidero\.dev\/cluster-locked first/;
  for (const attempt of [
    user.update(changed(locked, { labels: { a: "b" } })),
    user.update(changed(locked, { phase: "tearingDown" })),
    user.update(changed(locked, { phase: "tearingDown", annotations: {} })),
    user.teardown(ClusterKind.key("shop")),
    user.destroy(ClusterKind.key("shop")),
    user.create(stored(ConfigPatchKind, "more", of)),
    user.update(changed(patch, {}, Uint8Array.of())),
    user.update(changed(patch, { labels: {} })),
    user.update(changed(free, of)),
    user.teardown(ConfigPatchKind.key("patch")),
    user.destroy(ConfigPatchKind.key("patch")),
  ])
    await refused(attempt, "permission_denied", words);
  await user.create(stored(ConfigPatchKind, "other", { labels: { [label.cluster]: "elsewhere" } }));
  const unlocked = await user.update(changed(locked, { annotations: {} }));
  await user.destroy(ConfigPatchKind.key("patch"));
  assert.equal(unlocked.metadata.version, 3);
});

test("sizes and names are bounded, and all that is wrong is told at once", async () => {
  const { user } = start({
    validate: (kind, { metadata }) => (metadata.id === "odd" ? [`${kind.type} are not odd`, "nor is this"] : []),
  });
  const bad: [string, Partial<Metadata>, RegExp][] = [
    ["", {}, /the id must have 1 to 253 characters/],
    ["x".repeat(254), {}, /the id must have 1 to 253/],
    ["a\nb", {}, /none of control/],
    [" a", {}, /the id must/],
    ["a", { labels: { "": "x" } }, /labels must have a name/],
    ["a", { labels: { a: "x".repeat(4097) } }, /labels must .* at most 4096 characters/],
    [
      "a",
      { annotations: Object.fromEntries(Array.from({ length: 257 }, (_, n) => [`k${n}`, ""])) },
      /257 annotations; 256/,
    ],
    ["", { labels: { "\u0000": "" }, annotations: { "": "" } }, /the id must .*; labels must .*; annotations must/],
    ["odd", {}, /"odd" is not valid: Clusters\.omni\.sidero\.dev are not odd; nor is this$/],
  ];
  for (const [id, extra, words] of bad)
    await refused(user.create(stored(ClusterKind, id, extra)), "invalid_argument", words);
  await refused(
    user.create(stored(ClusterKind, "a", {}, new Uint8Array((4 << 20) + 1))),
    "invalid_argument",
    /the spec has 4194305 bytes; 4194304 are the most/,
  );
  await refused(
    user.create(stored(ClusterKind, "a", {}, Uint8Array.of(0xff, 0xff))),
    "invalid_argument",
    /the spec is not that of Clusters\.omni\.sidero\.dev/,
  );
  const data = "machine: {}\n".repeat(300_000);
  const large = toBinary(ConfigPatchSpecSchema, create(ConfigPatchSpecSchema, { data }));
  assert.ok(large.length < 4 << 20);
  const longest = { labels: { ["k".repeat(4096)]: "v".repeat(4096) } };
  await user.create(stored(ConfigPatchKind, "i".repeat(253), longest, large));
});

test("who changed what is in the log, without ids that are secrets", async () => {
  const { user, as, lines, state } = start();
  await user.create(stored(ClusterKind, "shop"));
  await user.teardown(ClusterKind.key("shop"));
  await user.destroy(ClusterKind.key("shop"));
  await refused(as("Reader").create(stored(ClusterKind, "no")), "permission_denied", /Operator/);
  assert.deepEqual(
    lines,
    ["create", "teardown", "destroy"].map(
      (verb) =>
        `a user changed a resource {"identity":"operator@example","role":"Operator","verb":"${verb}","type":"Clusters.omni.sidero.dev","id":"shop"}`,
    ),
  );
  await state.create(JoinTokenKind, "very-secret-token", { name: "site" });
  const token = await as("Admin").get(JoinTokenKind.key("very-secret-token"));
  await as("Admin").update(changed(token, { labels: { a: "b" } }));
  await as("Admin").destroy(JoinTokenKind.key("very-secret-token"));
  await refused(as("Admin").create(stored(JoinTokenKind, "chosen")), "permission_denied", /ichor token create/);
  assert.equal(lines.length, 5);
  assert.ok(!lines.join().includes("very-secret-token"));
});

// Anything that a client may send.

const kinds = allKinds.filter(({ writer }) => writer === "users");
const labels = fc.dictionary(
  fc.oneof(anyText(), fc.constantFrom(label.cluster, label.systemPatch, "__proto__", "constructor")),
  fc.oneof(anyText(), fc.constantFrom("a", "b")),
  { maxKeys: 4 },
);
const request = fc.record({
  op: fc.constantFrom("create", "create", "update", "update", "teardown", "destroy", "get"),
  kind: fc.constantFrom(...kinds),
  id: fc.oneof({ weight: 4, arbitrary: fc.constantFrom("a", "b") }, { weight: 1, arbitrary: anyText() }),
  labels,
  annotations: fc.oneof(labels, fc.constant({ [annotation.clusterLocked]: "" })),
  finalizers: fc.array(anyText(), { maxLength: 1 }),
  owner: fc.constantFrom("", "", "", "plane"),
  phase: fc.constantFrom("running", "running", "running", "tearingDown"),
  version: fc.integer({ min: -1, max: 3 }),
  spec: fc.oneof(
    fc.uint8Array({ maxLength: 30 }),
    fc.constantFrom(...kinds).chain((kind) => anyMessage(kind.spec, 2).map((message) => toBinary(kind.spec, message))),
  ),
});

test("whatever is sent, an error is one of ours, and what is kept can be read and is a user's", async () => {
  const expected: readonly Code[] = [
    "already_exists",
    "not_found",
    "failed_precondition",
    "permission_denied",
    "invalid_argument",
  ];
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 20 }), async (requests) => {
      const { as, state, store } = start();
      const admin = as("Admin");
      await Promise.all(
        requests.map(async ({ op, kind, id, spec, ...metadata }) => {
          const key = kind.key(id);
          const resource: Stored = { metadata: newMetadata(key, metadata as Partial<Metadata>), spec };
          try {
            if (op === "create") await admin.create(resource);
            else if (op === "update") await admin.update(resource);
            else if (op === "teardown") await admin.teardown(key);
            else if (op === "destroy") await admin.destroy(key);
            else await admin.get(key);
          } catch (error) {
            assert.ok(expected.includes(codeOf(error)), String(error));
            assert.ok((error as Error).message.length < 1000);
          }
        }),
      );
      for (const kind of kinds) {
        for (const { metadata } of await state.list(kind)) {
          assert.deepEqual([metadata.owner, metadata.finalizers, metadata.id.trim()], ["", [], metadata.id]);
          assert.ok(!Object.hasOwn(metadata.labels, label.systemPatch));
        }
      }
      await store.close();
    }),
    { numRuns: 400 },
  );
});
