import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock, systemClock } from "#lib/clock.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import { newMetadata } from "#resource/resource.ts";
import { storeConformance } from "./conformance.ts";
import type { Change } from "./history.ts";
import { MemoryStore } from "./memory.ts";
import type { Stored } from "./store.ts";

storeConformance("memory", async () => new MemoryStore({ clock: systemClock }));
storeConformance("memory before a slow disk", async () => {
  const persist = () => new Promise<void>((resolve) => setImmediate(resolve));
  return new MemoryStore({ clock: systemClock, persist });
});

const scope = { namespace: "test", type: "Things.test" };
const thing = (id: string, size = 0): Stored => ({
  metadata: newMetadata({ ...scope, id }),
  spec: new Uint8Array(size),
});

/** A disk that the test holds still. */
function slowDisk() {
  const groups: { changes: readonly Change[]; done: () => void; fail: (error: Error) => void }[] = [];
  let arrived = Promise.withResolvers<void>();
  const persist = (changes: readonly Change[]) =>
    new Promise<void>((done, fail) => {
      groups.push({ changes, done, fail });
      arrived.resolve();
    });
  const next = async () => {
    while (groups.length === 0) await arrived.promise;
    arrived = Promise.withResolvers();
    return groups.shift()!;
  };
  return { persist, next };
}

test("a write is seen when it is durable, and not before", async () => {
  const disk = slowDisk();
  const store = new MemoryStore({ clock: new ManualClock(), persist: disk.persist });
  const writing = store.create(thing("a"));
  const group = await disk.next();
  assert.equal(await store.get({ ...scope, id: "a" }), undefined);
  assert.equal(store.revision, 0);
  group.done();
  await writing;
  assert.equal((await store.get({ ...scope, id: "a" }))?.metadata.version, 1);
  assert.equal(store.revision, 1);
});

test("writers of one turn, and all that come while the disk is busy, share a group", async () => {
  const disk = slowDisk();
  const store = new MemoryStore({ clock: new ManualClock(), persist: disk.persist });
  const first = ["a", "b"].map((id) => store.create(thing(id)));
  const one = await disk.next();
  assert.equal(one.changes.length, 2);
  const second = ["c", "d", "e"].map((id) => store.create(thing(id)));
  one.done();
  await Promise.all(first);
  const two = await disk.next();
  assert.equal(two.changes.length, 3);
  two.done();
  await Promise.all(second);
});

test("a group that fails leaves nothing behind, and the next one works", async () => {
  const disk = slowDisk();
  const store = new MemoryStore({ clock: new ManualClock(), persist: disk.persist });
  const made = store.create(thing("a"));
  (await disk.next()).done();
  const before = await made;
  const lost = store.update({ ...before, spec: Uint8Array.of(1) });
  const full = await disk.next();
  // Checked against what is about to be lost.
  const built = store.update({ metadata: { ...before.metadata, version: 2 }, spec: Uint8Array.of(2) });
  full.fail(new IchorError("resource_exhausted", "full"));
  for (const write of [lost, built]) await assert.rejects(write, (error) => codeOf(error) === "resource_exhausted");
  assert.deepEqual(await store.get({ ...scope, id: "a" }), before);
  const again = store.update({ ...before, spec: Uint8Array.of(3) });
  (await disk.next()).done();
  assert.equal((await again).metadata.version, 2);
});

test("who loses against a write on its way sees it when looking again", async () => {
  const disk = slowDisk();
  const store = new MemoryStore({ clock: new ManualClock(), persist: disk.persist });
  const winner = store.create(thing("a"));
  const loser = store.create(thing("a")).catch(async (error) => {
    assert.equal(codeOf(error), "already_exists");
    return store.get({ ...scope, id: "a" });
  });
  (await disk.next()).done();
  assert.equal(await loser, await winner);
});

test("history is bounded by number and by bytes; a reader that is too slow is told", async () => {
  for (const [history, size] of [[{ changes: 8 }, 0] as const, [{ bytes: 10_000 }, 2000] as const]) {
    const store = new MemoryStore({ clock: new ManualClock(), history });
    const stop = new AbortController();
    const { bookmark } = await store.list(scope);
    const slow = store.watch(scope, { from: "now", signal: stop.signal })[Symbol.asyncIterator]();
    for (let index = 0; index < 20; index++) await store.create(thing(String(index), size));
    await assert.rejects(slow.next(), (error) => codeOf(error) === "resource_exhausted");
    assert.throws(
      () => store.watch(scope, { from: { bookmark }, signal: stop.signal }),
      (error) => codeOf(error) === "out_of_range",
    );
    // The latest is always there.
    const late = (await store.list(scope)).bookmark;
    await store.create(thing("last", 50_000));
    const events = store.watch(scope, { from: { bookmark: late }, signal: stop.signal })[Symbol.asyncIterator]();
    assert.equal((await events.next()).value?.kind, "created");
    stop.abort();
  }
});

test("a spec does not keep a larger buffer alive", async () => {
  const store = new MemoryStore({ clock: new ManualClock() });
  const body = new Uint8Array(10_000).fill(7);
  const stored = await store.create({ ...thing("a"), spec: body.subarray(10, 20) });
  assert.equal(stored.spec.buffer.byteLength, 10);
  assert.deepEqual([...stored.spec], new Array(10).fill(7));
});
