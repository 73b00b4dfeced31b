import assert from "node:assert/strict";
import { test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, createContextValues, createRouterTransport } from "@connectrpc/connect";
import fc from "fast-check";
import {
  type AffiliateUpdateRequestSchema,
  Cluster,
  type WatchResponse,
} from "#gen/sidero/discovery/server/server_pb.ts";
import { ManualClock } from "#lib/clock.ts";
import { Discovery } from "./discovery.ts";
import { callerAddress } from "./serve-h2c.ts";

const minutes = (count: number) => durationFromMs(count * 60_000);
const soon = () => AbortSignal.timeout(10_000);
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

function service() {
  const clock = new ManualClock();
  const discovery = new Discovery(clock);
  const transport = createRouterTransport((router) => discovery.routes(router), {
    router: { contextValues: () => createContextValues().set(callerAddress, "fdae:41e4:649b:9303::77") },
  } as object);
  const client = createClient(Cluster, transport);
  const update = (
    affiliateId: string,
    more: MessageInitShape<typeof AffiliateUpdateRequestSchema> = {},
    clusterId = "one",
  ) => client.affiliateUpdate({ clusterId, affiliateId, ttl: minutes(30), ...more });
  const list = async (clusterId = "one") =>
    (await client.list({ clusterId })).affiliates.map(({ id, data, endpoints }) => ({
      id,
      data: Buffer.from(data).toString(),
      endpoints: endpoints.map((endpoint) => Buffer.from(endpoint).toString()),
    }));
  return { clock, discovery, client, update, list };
}

/** Messages of a watch, one at a time. */
function watch(client: ReturnType<typeof service>["client"], clusterId = "one") {
  const stop = new AbortController();
  const stream = client
    .watch({ clusterId }, { signal: AbortSignal.any([stop.signal, soon()]) })
    [Symbol.asyncIterator]();
  const next = async () => {
    const { value } = await stream.next();
    const { affiliates, deleted } = value as WatchResponse;
    return { ids: affiliates.map(({ id }) => id), deleted, endpoints: affiliates.map((one) => one.endpoints.length) };
  };
  return { next, stream, stop: () => stop.abort() };
}

const refused = (work: Promise<unknown>, code: Code) =>
  assert.rejects(work, (error: unknown) => error instanceof ConnectError && error.code === code);

test("data is replaced where given, endpoints add up, one cluster sees nothing of another", async () => {
  const { update, list } = service();
  await update("a", { affiliateData: bytes("first"), affiliateEndpoints: [bytes("e1")] });
  await update("a", { affiliateEndpoints: [bytes("e2"), bytes("e1")] });
  await update("b", { affiliateData: bytes("other") }, "two");
  assert.deepEqual(await list(), [{ id: "a", data: "first", endpoints: ["e1", "e2"] }]);
  await update("a", { affiliateData: bytes("second") });
  assert.deepEqual(await list(), [{ id: "a", data: "second", endpoints: ["e1", "e2"] }]);
  assert.deepEqual(await list("two"), [{ id: "b", data: "other", endpoints: [] }]);
  assert.deepEqual(await list("three"), []);
});

test("a watch begins with all, also when that is nothing, and goes on with changes of its cluster alone", async () => {
  const { client, update } = service();
  const empty = watch(client);
  assert.deepEqual(await empty.next(), { ids: [], deleted: false, endpoints: [] });
  await update("a");
  await update("elsewhere", {}, "two");
  await update("b");
  assert.deepEqual((await empty.next()).ids, ["a"]);
  assert.deepEqual((await empty.next()).ids, ["b"]);
  const late = watch(client);
  assert.deepEqual((await late.next()).ids, ["a", "b"]);
  await client.affiliateDelete({ clusterId: "one", affiliateId: "a" });
  for (const watcher of [empty, late])
    assert.deepEqual(await watcher.next(), { ids: ["a"], deleted: true, endpoints: [0] });
  await client.affiliateDelete({ clusterId: "one", affiliateId: "a" });
  await update("c");
  assert.deepEqual((await late.next()).ids, ["c"], "who is gone already is not told again");
  empty.stop();
  late.stop();
});

test("what is not renewed goes after its time, and watchers are told: affiliates and single endpoints", async () => {
  const { clock, client, update, list } = service();
  await update("short", { ttl: minutes(5) });
  await update("long", { affiliateEndpoints: [bytes("old")] });
  clock.advance(20 * 60_000);
  assert.deepEqual(
    (await list()).map(({ id }) => id),
    ["long"],
  );
  await update("long", { affiliateEndpoints: [bytes("new")] });
  const watcher = watch(client);
  assert.deepEqual(await watcher.next(), { ids: ["long"], deleted: false, endpoints: [2] });
  clock.advance(11 * 60_000);
  assert.deepEqual(await watcher.next(), { ids: ["long"], deleted: false, endpoints: [1] });
  assert.deepEqual((await list())[0]!.endpoints, ["new"]);
  clock.advance(20 * 60_000);
  assert.deepEqual(await watcher.next(), { ids: ["long"], deleted: true, endpoints: [0] });
  assert.deepEqual(await list(), []);
  watcher.stop();
});

test("an empty service holds no timer and no cluster", async () => {
  const { clock, update, client } = service();
  for (let cluster = 0; cluster < 50; cluster++) await update("a", { ttl: minutes(1) }, `c${cluster}`);
  assert.equal(clock.pending, 1);
  clock.advance(3 * 60_000);
  assert.equal(clock.pending, 0);
  const watcher = watch(client, "watched");
  await watcher.next();
  watcher.stop();
  await assert.rejects(watcher.stream.next());
  assert.equal(clock.pending, 0);
});

test("limits: sizes, times and numbers", async () => {
  const { update, client } = service();
  const bad = Code.InvalidArgument;
  await refused(update(""), bad);
  await refused(update("x".repeat(257)), bad);
  await refused(update("ü".repeat(129)), bad);
  await refused(update("a", {}, ""), bad);
  await refused(update("a", { affiliateData: new Uint8Array(2049) }), bad);
  await refused(update("a", { affiliateEndpoints: [new Uint8Array(33)] }), bad);
  for (const ms of [0, -1, 30 * 60_000 + 1, Number.MAX_SAFE_INTEGER])
    await refused(update("a", { ttl: durationFromMs(ms) }), bad);
  await refused(client.affiliateUpdate({ clusterId: "one", affiliateId: "a" }), bad);
  await refused(client.list({ clusterId: "" }), bad);
  await refused(client.hello({ clusterId: "" }), bad);
  await refused(client.affiliateDelete({ clusterId: "one", affiliateId: "" }), bad);
  await update("x".repeat(256), { affiliateData: new Uint8Array(2048), affiliateEndpoints: [new Uint8Array(32)] });
  const many = Array.from({ length: 65 }, (_, index) => bytes(`e${index}`));
  await refused(update("a", { affiliateEndpoints: many }), Code.ResourceExhausted);
  await update("a", { affiliateEndpoints: many.slice(0, 64) });
  await refused(update("a", { affiliateEndpoints: many.slice(64) }), Code.ResourceExhausted);
  await update("a", { affiliateEndpoints: many.slice(0, 3) });
  for (let index = 0; index < 1022; index++) await update(`m${index}`);
  await refused(update("one too many"), Code.ResourceExhausted);
  await update("m5", { affiliateData: bytes("still") });
});

test("clusters are bounded, whoever begins them", async () => {
  const { update, client } = service();
  for (let index = 0; index < 4096; index++) await update("a", {}, `c${index}`);
  await refused(update("a", {}, "another"), Code.ResourceExhausted);
  const watcher = client.watch({ clusterId: "yet another" }, { signal: soon() })[Symbol.asyncIterator]();
  await refused(watcher.next(), Code.ResourceExhausted);
  await update("b", {}, "c7");
});

test("a watcher that does not read is ended after 32 messages; the others go on", async () => {
  const { client, update } = service();
  const slow = watch(client);
  const quick = watch(client);
  await slow.next();
  await quick.next();
  for (let index = 0; index < 80; index++) {
    await update(`a${index}`);
    assert.deepEqual((await quick.next()).ids, [`a${index}`]);
  }
  await refused(
    (async () => {
      for (;;) await slow.next();
    })(),
    Code.Aborted,
  );
  quick.stop();
});

test("any update is taken or refused, and what is listed stays within the limits", async () => {
  const { update, list } = service();
  await fc.assert(
    fc.asyncProperty(
      fc.string({ maxLength: 300 }),
      fc.uint8Array({ maxLength: 2100 }),
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 70 }),
      fc.record({ seconds: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), nanos: fc.integer() }),
      async (id, affiliateData, affiliateEndpoints, ttl) => {
        await update(id, { affiliateData, affiliateEndpoints, ttl }).catch((error: unknown) => {
          assert.ok(error instanceof ConnectError);
          assert.ok([Code.InvalidArgument, Code.ResourceExhausted].includes(error.code), String(error));
        });
        for (const { endpoints } of await list()) assert.ok(endpoints.length <= 64);
      },
    ),
    { numRuns: 200 },
  );
});
