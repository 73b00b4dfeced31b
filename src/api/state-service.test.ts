import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type Event,
  EventType,
  type MetadataSchema,
  LabelTerm_Operation as Op,
  ResourceSchema,
  type SpecSchema,
  State,
  type WatchRequestSchema,
} from "#gen/cosi/resource/resource_pb.ts";
import { ClusterSpecSchema, ConfigPatchSpecSchema } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import type { Role } from "#resource/kind.ts";
import { outcome, startApi } from "./fixtures.test.ts";

const { namespace, type } = ClusterKind;
const scope = { namespace, type };
const eventNames = ["CREATED", "UPDATED", "DESTROYED", "BOOTSTRAPPED", "ERRORED", "NOOP"];

async function start(t: TestContext, role: Role = "Operator") {
  const api = await startApi(t);
  return { api, client: await api.client(State, role) };
}

function cluster(
  id: string,
  metadata: MessageInitShape<typeof MetadataSchema> = {},
  spec: MessageInitShape<typeof SpecSchema> = {},
) {
  const protoSpec = toBinary(
    ClusterSpecSchema,
    create(ClusterSpecSchema, { talosVersion: "1.13.9", kubernetesVersion: "1.36.3" }),
  );
  return create(ResourceSchema, {
    metadata: { ...scope, id, version: "undefined", phase: "running", ...metadata },
    spec: spec.protoSpec || spec.yamlSpec ? spec : { protoSpec },
  });
}
const failsWith = async (call: Promise<unknown> | AsyncIterable<unknown>, code: string, words: RegExp) => {
  const { code: got, message } = await outcome(call);
  assert.equal(got, code, message);
  assert.match(message, words);
};
async function ids(client: Client<typeof State>, options: MessageInitShape<typeof WatchRequestSchema>["options"] = {}) {
  const found: string[] = [];
  const { labelQuery, idQuery } = options;
  const query = { ...(labelQuery ? { labelQuery } : {}), ...(idQuery ? { idQuery } : {}) };
  for await (const { resource } of client.list({ ...scope, options: query })) found.push(resource?.metadata?.id ?? "");
  return found;
}

/** A watch that is set up: its first message was the empty one that clients wait for. */
async function watch(
  t: TestContext,
  client: Client<typeof State>,
  request: MessageInitShape<typeof WatchRequestSchema>,
) {
  const stop = new AbortController();
  t.after(() => stop.abort());
  const stream = client.watch({ ...scope, apiVersion: 1, ...request }, { signal: stop.signal })[Symbol.asyncIterator]();
  const first = await stream.next();
  assert.deepEqual([first.done, first.value?.event], [false, []]);
  const next = async (): Promise<Event> => {
    const { value, done } = await stream.next();
    assert.ok(!done && value.event.length === 1);
    return value.event[0]!;
  };
  const told = async () => {
    const event = await next();
    return `${eventNames[event.eventType]} ${event.resource?.metadata?.id ?? ""} ${event.resource?.metadata?.version ?? ""}`.trim();
  };
  return { next, told, stop: () => stop.abort() };
}

test("a resource is made, read in both encodings, changed, torn down and destroyed", async (t) => {
  const { client } = await start(t);
  const { resource: made } = await client.create({ resource: cluster("a", { labels: { x: "y" } }) });
  assert.deepEqual([made?.metadata?.version, made?.metadata?.owner, made?.metadata?.phase], ["1", "", "running"]);
  assert.ok(made?.metadata?.created && made.metadata.updated);
  const { resource: read } = await client.get({ ...scope, id: "a" });
  assert.deepEqual(read, made);
  assert.match(read?.spec?.yamlSpec ?? "", /^talosversion: 1\.13\.9$/m);
  // What generic tools send: YAML alone.
  const yamlSpec = "talosversion: 1.13.10\nkubernetesversion: 1.36.3\nfeatures:\n  diskencryption: true\n";
  const { resource: changed } = await client.update({ newResource: { metadata: read!.metadata!, spec: { yamlSpec } } });
  const spec = fromBinary(ClusterSpecSchema, changed!.spec!.protoSpec);
  assert.deepEqual([spec.talosVersion, spec.features?.diskEncryption], ["1.13.10", true]);
  // Where both are sent, as Go's clients do, the protobuf form counts.
  const both = { protoSpec: read!.spec!.protoSpec, yamlSpec };
  const { resource: again } = await client.update({ newResource: { metadata: changed!.metadata!, spec: both } });
  assert.equal(fromBinary(ClusterSpecSchema, again!.spec!.protoSpec).talosVersion, "1.13.9");
  assert.equal((await client.teardown({ ...scope, id: "a" })).destroyReady, true);
  await client.destroy({ ...scope, id: "a" });
  assert.deepEqual(await ids(client), []);
});

test("errors have the codes that stock clients act on", async (t) => {
  const { client, api } = await start(t);
  await failsWith(client.get({ ...scope, id: "none" }), "NotFound", /"none" does not exist/);
  await failsWith(client.get({ namespace, type: "Nothing.test", id: "a" }), "NotFound", /no type "Nothing\.test"/);
  await failsWith(client.list({ namespace: "other", type }), "NotFound", /are in the namespace "default"/);
  const { resource } = await client.create({ resource: cluster("a") });
  await failsWith(client.create({ resource: cluster("a") }), "AlreadyExists", /already exists/);
  await failsWith(
    client.create({ resource: cluster("b"), options: { owner: "me" } }),
    "PermissionDenied",
    /owner must be empty/,
  );
  await failsWith(client.create({}), "InvalidArgument", /holds no resource/);
  await failsWith(client.create({ resource: cluster("") }), "InvalidArgument", /the id must have/);
  await failsWith(
    client.create({ resource: cluster("b", {}, { protoSpec: Uint8Array.of(255) }) }),
    "InvalidArgument",
    /the spec is not that of Clusters/,
  );
  await failsWith(
    client.create({ resource: cluster("b", {}, { yamlSpec: "talosversoin: 1" }) }),
    "InvalidArgument",
    /has no field "talosversoin"/,
  );
  await client.update({ newResource: resource! });
  await failsWith(client.update({ newResource: resource! }), "FailedPrecondition", /changed meanwhile/);
  await failsWith(client.update({ newResource: cluster("none") }), "NotFound", /does not exist/);
  await api.state.addFinalizer(ClusterKind.key("a"), "holder");
  const { resource: held } = await client.get({ ...scope, id: "a" });
  await failsWith(
    client.update({ newResource: held!, options: { expectedPhase: "tearingDown" } }),
    "InvalidArgument",
    /is running, not tearingDown/,
  );
  await failsWith(
    client.update({ newResource: held!, options: { expectedPhase: "gone" } }),
    "InvalidArgument",
    /expected phase/,
  );
  assert.equal((await client.teardown({ ...scope, id: "a" })).destroyReady, false);
  await failsWith(client.destroy({ ...scope, id: "a" }), "FailedPrecondition", /still held by holder/);
  await failsWith(client.update({ newResource: held! }), "FailedPrecondition", /changed meanwhile/);
  await failsWith(client.create({ resource: cluster("a") }), "AlreadyExists", /already exists/);
  const status = { namespace: ClusterStatusKind.namespace, type: ClusterStatusKind.type };
  await failsWith(client.create({ resource: cluster("a", status) }), "PermissionDenied", /the plane alone/);
});

test("what holds keys is shown to nobody, by no call", async (t) => {
  const { client, api } = await start(t, "Admin");
  await api.state.as("plane").create(ClusterSecretsKind, "a", { data: Buffer.from("very secret") });
  const key = { ...ClusterSecretsKind.key("a") };
  const { id: _, ...secrets } = key;
  for (const refused of [
    client.get(key),
    client.list(secrets),
    client.watch({ ...secrets, options: { bootstrapContents: true } }),
    client.watch(key),
    client.destroy(key),
    client.teardown(key),
    client.teardownAndDestroy(key),
    client.update({ newResource: { metadata: { ...key, version: "1" } } }),
  ])
    await failsWith(refused, "PermissionDenied", /shown to nobody/);
  assert.ok(!api.lines.join().includes("very secret"));
});

test("a teardown that others hold is waited for, and ended with the call", async (t) => {
  const { client, api } = await start(t);
  await client.create({ resource: cluster("a") });
  await api.state.addFinalizer(ClusterKind.key("a"), "holder");
  const stop = new AbortController();
  const cut = outcome(client.teardownAndDestroy({ ...scope, id: "a" }, { signal: stop.signal }));
  const gone = client.teardownAndDestroy({ ...scope, id: "a" });
  const events = await watch(t, client, { id: "a" });
  while ((await events.next()).resource?.metadata?.phase !== "tearingDown");
  stop.abort();
  assert.equal((await cut).code, "Canceled");
  await api.state.removeFinalizer(ClusterKind.key("a"), "holder");
  await gone;
  assert.deepEqual(await ids(client), []);
  await failsWith(client.teardownAndDestroy({ ...scope, id: "a" }), "NotFound", /does not exist/);
});

test("lists are selected by labels and ids", async (t) => {
  const { client } = await start(t);
  const made: [string, Record<string, string>][] = [
    ["a", { tier: "edge", cores: "4" }],
    ["b", { tier: "core", cores: "16" }],
    ["c", { cores: "2Ki" }],
  ];
  for (const [id, labels] of made) await client.create({ resource: cluster(id, { labels }) });
  const by = (...terms: { key: string; op: Op; value?: string[]; invert?: boolean }[]) =>
    ids(client, { labelQuery: [{ terms }] });
  assert.deepEqual(await ids(client), ["a", "b", "c"]);
  assert.deepEqual(await by({ key: "tier", op: Op.EXISTS }), ["a", "b"]);
  assert.deepEqual(await by({ key: "tier", op: Op.EXISTS, invert: true }), ["c"]);
  assert.deepEqual(await by({ key: "tier", op: Op.NOT_EXISTS }), ["c"]);
  assert.deepEqual(await by({ key: "tier", op: Op.NOT_EXISTS, invert: true }), ["a", "b"]);
  assert.deepEqual(await by({ key: "tier", op: Op.EQUAL, value: ["edge"] }), ["a"]);
  assert.deepEqual(await by({ key: "tier", op: Op.IN, value: ["edge", "core"] }), ["a", "b"]);
  assert.deepEqual(await by({ key: "cores", op: Op.LT_NUMERIC, value: ["16"] }), ["a"]);
  assert.deepEqual(await by({ key: "cores", op: Op.LTE_NUMERIC, value: ["16"] }), ["a", "b"]);
  // As texts, "16" comes before "4".
  assert.deepEqual(await by({ key: "cores", op: Op.LT, value: ["2"] }), ["b"]);
  assert.deepEqual(await by({ key: "tier", op: Op.EXISTS }, { key: "cores", op: Op.EQUAL, value: ["16"] }), ["b"]);
  const alternatives = ["edge", "core"].map((value) => ({ terms: [{ key: "tier", op: Op.EQUAL, value: [value] }] }));
  assert.deepEqual(await ids(client, { labelQuery: alternatives }), ["a", "b"]);
  assert.deepEqual(await ids(client, { idQuery: { regexp: "^[ab]$" } }), ["a", "b"]);
  await failsWith(
    client.list({ ...scope, options: { labelQuery: [{ terms: [{ key: "a", op: 99 as Op }] }] } }),
    "InvalidArgument",
    /unknown operation 99/,
  );
});

test("an id query that would take for ever is refused before it is run", async (t) => {
  const { client } = await start(t);
  await client.create({ resource: cluster("a".repeat(63)) });
  const query = (regexp: string) => client.list({ ...scope, options: { idQuery: { regexp } } });
  for (const evil of [
    "(a+)+$",
    "(a*)*b",
    "(a|a)*b",
    "(a+a?)+b",
    "(a+b?){2,}c",
    "[]|(a+)+$",
    "(?:a|aa)+$",
    "(a?){50}b",
    "(a)\\1\\1",
    "(?<n>a)\\k<n>",
    "a*a*a*a*b",
    "x".repeat(257),
  ])
    await failsWith(query(evil), "InvalidArgument", /regular expression of at most 256 characters/);
  await failsWith(query("("), "InvalidArgument", /not a regular expression/);
  for (const tame of ["^aaa.*", "(a|b)", "a{3,}", "\\(?", "[+*]?a", "^(edge|aa).*a.*$"])
    assert.equal((await outcome(query(tame))).code, "ok", tame);
});

test("a watch of a kind tells later changes; with its contents, those first, then that they are all", async (t) => {
  const { client, api } = await start(t);
  await client.create({ resource: cluster("a") });
  const later = await watch(t, client, {});
  const all = await watch(t, client, { options: { bootstrapContents: true } });
  const old = await watch(t, client, { apiVersion: 0, options: { bootstrapContents: true } });
  const { resource } = await client.create({ resource: cluster("b") });
  await client.update({ newResource: { ...resource!, metadata: { ...resource!.metadata!, labels: { x: "y" } } } });
  await client.destroy({ ...scope, id: "a" });
  const changes = ["CREATED b 1", "UPDATED b 2", "DESTROYED a 1"];
  for (const change of changes) assert.equal(await later.told(), change);
  assert.equal(await all.told(), "CREATED a 1");
  const bootstrapped = await all.next();
  assert.equal(bootstrapped.eventType, EventType.BOOTSTRAPPED);
  assert.ok(bootstrapped.bookmark?.length);
  assert.equal(await all.told(), "CREATED b 1");
  const updated = await all.next();
  assert.deepEqual([updated.old?.metadata?.version, updated.resource?.metadata?.labels], ["1", { x: "y" }]);
  // Older clients know no such event.
  for (const change of ["CREATED a 1", ...changes]) assert.equal(await old.told(), change);
  // From the bookmark on, exactly what followed it.
  const resumed = await watch(t, client, { options: { startFromBookmark: bootstrapped.bookmark } });
  for (const change of changes) assert.equal(await resumed.told(), change);
  const fresh = (await all.next()).bookmark!;
  for (let n = 0; n < 3; n++) await client.create({ resource: cluster(`c${n}`) });
  const { bookmark: now } = await api.state.store.list(ClusterKind);
  await api.state.store.compact(now);
  for (const bookmark of [fresh, bootstrapped.bookmark!])
    await failsWith(
      client.watch({ ...scope, options: { startFromBookmark: bookmark } }),
      "FailedPrecondition",
      /too old: watch again with bootstrap contents/,
    );
  await failsWith(
    client.watch({ ...scope, options: { startFromBookmark: Buffer.from("junk") } }),
    "InvalidArgument",
    /not a bookmark/,
  );
});

test("a watch of one resource begins with how it is, also when it is not there", async (t) => {
  const { client } = await start(t);
  const events = await watch(t, client, { id: "a" });
  const missing = await events.next();
  assert.equal(missing.eventType, EventType.DESTROYED);
  assert.deepEqual(
    [missing.resource?.metadata?.id, missing.resource?.metadata?.version, missing.resource?.spec],
    ["a", "undefined", undefined],
  );
  await client.create({ resource: cluster("b") });
  await client.create({ resource: cluster("a") });
  assert.equal(await events.told(), "CREATED a 1");
  assert.equal(await (await watch(t, client, { id: "a" })).told(), "CREATED a 1");
  await client.destroy({ ...scope, id: "a" });
  assert.equal(await events.told(), "DESTROYED a 1");
  for (const options of [{ bootstrapContents: true }, { labelQuery: [{ terms: [] }] }, { idQuery: { regexp: "a" } }])
    await failsWith(client.watch({ ...scope, id: "a", options }), "Unimplemented", /neither queries nor bootstrap/);
  await failsWith(client.watch({ ...scope, options: { tailEvents: 5 } }), "Unimplemented", /not built yet/);
});

test("a filtered watch tells what moves into the query and out of it", async (t) => {
  const { client } = await start(t);
  const events = await watch(t, client, {
    options: { labelQuery: [{ terms: [{ key: "tier", op: Op.EQUAL, value: ["edge"] }] }] },
  });
  const { resource } = await client.create({ resource: cluster("a") });
  const label = async (from: typeof resource, labels: Record<string, string>) =>
    (await client.update({ newResource: { ...from!, metadata: { ...from!.metadata!, labels } } })).resource;
  const edge = await label(resource, { tier: "edge" });
  const again = await label(edge, { tier: "edge", more: "1" });
  await label(again, { tier: "core" });
  for (const change of ["CREATED a 2", "UPDATED a 3", "DESTROYED a 4"]) assert.equal(await events.told(), change);
});

test("a watch ends with the session that it is for", async (t) => {
  const { api } = await start(t);
  const client = await api.client(State, "Reader");
  const { token } = await api.sessions.createToken("short", "Reader", 60_000);
  const { createClient } = await import("@connectrpc/connect");
  const brief = createClient(State, api.transport(token));
  const stream = brief.watch({ ...scope, apiVersion: 1 })[Symbol.asyncIterator]();
  await stream.next();
  const lasting = await watch(t, client, {});
  const over = stream.next();
  api.clock.advance(60_000);
  await assert.rejects(Promise.resolve(over), /the session has ended: sign in again/);
  await api.state.create(ClusterKind, "after", {});
  assert.equal(await lasting.told(), "CREATED after 1");
  assert.equal((await outcome(brief.get({ ...scope, id: "after" }))).code, "Unauthenticated");
});

test("what Talos would refuse, and what only the plane may set, is refused with all reasons", async (t) => {
  const { client } = await start(t);
  const versions = (talosVersion: string, kubernetesVersion: string) => ({
    protoSpec: toBinary(ClusterSpecSchema, create(ClusterSpecSchema, { talosVersion, kubernetesVersion })),
  });
  const clusters: [string, string, string, RegExp][] = [
    ["../shop", "1.13.9", "1.36.3", /at most 63 letters, digits, - and _/],
    ["shop", "1.13.9", "1.20.0", /Talos 1\.13 runs Kubernetes 1\.31 to 1\.36, not 1\.20\.0/],
    ["shop", "1.2.0", "1.20.0", /Talos 1\.2\.0 is not supported/],
    ["shop", "", "1.36.3", /"" is not a version such as v1\.13\.0/],
    ["a b", "newest", "1.36.3", /letters, digits.*; "newest" is not a version/],
  ];
  for (const [id, talos, kubernetes, words] of clusters)
    await failsWith(
      client.create({ resource: cluster(id, {}, versions(talos, kubernetes)) }),
      "InvalidArgument",
      words,
    );
  const patch = (spec: MessageInitShape<typeof ConfigPatchSpecSchema>, yamlSpec = "") => ({
    metadata: { ...ConfigPatchKind.key("500-mine"), version: "undefined", phase: "running" },
    spec: { protoSpec: toBinary(ConfigPatchSpecSchema, create(ConfigPatchSpecSchema, spec)), yamlSpec },
  });
  const secretKey = "cluster:\n  token: canary\nmachine:\n  ca: {key: canary}\n";
  const patches: [MessageInitShape<typeof ConfigPatchSpecSchema>, RegExp][] = [
    [{ data: "" }, /the patch is empty; remove it/],
    [{ data: "machine: [" }, /500-mine" is not valid/],
    [{ data: "mashine: {}" }, /no field "mashine" at the top of a configuration \(line 1\); use machine/],
    [{ data: secretKey }, /cluster\.token is set by the plane \(line 2\); remove it; machine\.ca is set by the plane/],
    [{ compressedData: gzipSync(secretKey) }, /cluster\.token is set by the plane/],
    [{ compressedData: Buffer.from("canary") }, /not gzip of at most 4 MiB: send it as plain text/],
    [{ compressedData: gzipSync(Buffer.alloc(5 << 20)) }, /not gzip of at most 4 MiB/],
  ];
  for (const [spec, words] of patches) {
    await failsWith(client.create({ resource: patch(spec) }), "InvalidArgument", words);
    assert.doesNotMatch((await outcome(client.create({ resource: patch(spec) }))).message, /canary/);
  }
  // As stock clients send what is large: compressed in their own way, and in plain as YAML.
  const stock = patch({ compressedData: Buffer.from("a dictionary that we lack") }, "data: |\n  machine: {}\n");
  const { resource } = await client.create({ resource: stock });
  assert.equal(fromBinary(ConfigPatchSpecSchema, resource!.spec!.protoSpec).data, "machine: {}\n");
});

test("tokens' ids go to those who may make them alone", async (t) => {
  const { api } = await start(t);
  await api.state.create(JoinTokenKind, "the-token", { name: "site" });
  const { id: _, ...tokens } = JoinTokenKind.key("");
  for (const role of ["None", "InfraProvider", "Reader", "Auditor"] as const)
    await failsWith((await api.client(State, role)).list(tokens), "PermissionDenied", /needs the role Operator/);
  assert.equal((await outcome((await api.client(State, "Operator")).list(tokens))).code, "ok");
});
