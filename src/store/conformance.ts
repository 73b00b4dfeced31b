import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { type Code, codeOf } from "#lib/errors.ts";
import { labelled } from "#resource/query.ts";
import { type Key, type Metadata, newMetadata } from "#resource/resource.ts";
import type { Bookmark, Scope, Store, Stored, StoreEvent, WatchOptions } from "./store.ts";

// What every backend must hold, whatever it keeps resources in.

const namespace = "test";
let scopes = 0;
/** A scope that no other property has used, so that one store serves all of them. */
const freshScope = (): Scope => ({ namespace, type: `Things${++scopes}.test` });
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (stored: Stored | undefined) => stored && new TextDecoder().decode(stored.spec);

function thing(scope: Scope, id: string, content = "", extra: Partial<Metadata> = {}): Stored {
  return { metadata: newMetadata({ ...scope, id }, extra), spec: bytes(content) };
}

async function fails(what: Promise<unknown>, code: Code): Promise<void> {
  await assert.rejects(what, (error) => {
    assert.equal(codeOf(error), code, String(error));
    return true;
  });
}

/** Events until `enough`; the watch is ended then. */
async function collect(
  store: Store,
  scope: Scope,
  options: Omit<WatchOptions, "signal">,
  enough: (event: StoreEvent, all: readonly StoreEvent[]) => boolean,
): Promise<StoreEvent[]> {
  const stop = new AbortController();
  const events: StoreEvent[] = [];
  try {
    for await (const event of store.watch(scope, { ...options, signal: stop.signal })) {
      events.push(event);
      if (enough(event, events)) break;
    }
  } finally {
    stop.abort();
  }
  return events;
}

/** What a watch must tell of a write, in a form that can be compared. */
function told(event: StoreEvent): unknown {
  if (event.kind === "bootstrapped") return event.kind;
  const { id, version, phase } = event.resource.metadata;
  return [event.kind, id, version, phase, text(event.resource), event.kind === "updated" ? text(event.old) : ""];
}

/** A write drawn at random; most of them are refused, which must change nothing. */
const operations = fc.array(
  fc.record({
    id: fc.constantFrom("a", "b", "c"),
    op: fc.constantFrom("create", "update", "update", "label", "hold", "release", "teardown", "destroy"),
    value: fc.string({ maxLength: 4 }),
  }),
  { maxLength: 40 },
);
type Operation = typeof operations extends fc.Arbitrary<(infer T)[]> ? T : never;

/** Does it where it can be done; undefined when there is nothing to do it to. */
async function write(store: Store, current: Stored | undefined, scope: Scope, { id, op, value }: Operation) {
  if (op === "create") return store.create(thing(scope, id, value));
  if (op === "destroy") return store.destroy({ ...scope, id });
  if (!current) return undefined;
  const { metadata } = current;
  const change: Partial<Metadata> = {
    ...(op === "label" ? { labels: { color: value } } : {}),
    ...(op === "hold" ? { finalizers: [...new Set([...metadata.finalizers, value])] } : {}),
    ...(op === "release" ? { finalizers: [] } : {}),
    ...(op === "teardown" ? { phase: "tearingDown" } : {}),
  };
  const next = { metadata: { ...metadata, ...change }, spec: op === "update" ? bytes(value) : current.spec };
  return store.update(next, op === "release" || op === "teardown" ? { expectedPhase: "any" } : {});
}

const refusals: readonly Code[] = ["already_exists", "not_found", "failed_precondition", "invalid_argument"];

/** Does it with nobody else around, and answers what a watch must tell; undefined when it was refused, which must change nothing. */
async function apply(store: Store, scope: Scope, operation: Operation): Promise<unknown> {
  const key: Key = { ...scope, id: operation.id };
  const before = await store.get(key);
  try {
    const done = await write(store, before, scope, operation);
    if (done === undefined && operation.op !== "destroy") return undefined;
    const after = await store.get(key);
    if (operation.op !== "destroy") assert.deepEqual(after, done);
    const { metadata } = (after ?? before)!;
    if (after) assert.equal(metadata.version, (before?.metadata.version ?? 0) + 1);
    const kind = !before ? "created" : after ? "updated" : "destroyed";
    return [kind, key.id, metadata.version, metadata.phase, text(after ?? before), after && before ? text(before) : ""];
  } catch (error) {
    if (!refusals.includes(codeOf(error))) throw error;
    assert.deepEqual(await store.get(key), before);
    return undefined;
  }
}

/** Does it while others write too. */
async function race(store: Store, scope: Scope, operation: Operation): Promise<void> {
  try {
    await write(store, await store.get({ ...scope, id: operation.id }), scope, operation);
  } catch (error) {
    if (!refusals.includes(codeOf(error))) throw error;
  }
}

/** Registers the suite for one backend with node:test. `open` makes a store with nothing in it. */
export function storeConformance(backend: string, open: () => Promise<Store>, runs = 60): void {
  describe(`store conformance: ${backend}`, () => {
    let store: Store;
    before(async () => {
      store = await open();
    });
    after(() => store.close());

    test("what is created can be read and listed, ordered by id", async () => {
      const scope = freshScope();
      for (const id of ["b", "a", "c"]) await store.create(thing(scope, id, id, { labels: { id } }), { owner: "me" });
      const found = await store.get({ ...scope, id: "b" });
      assert.equal(text(found), "b");
      assert.equal(found?.metadata.version, 1);
      assert.equal(found?.metadata.owner, "me");
      assert.ok(found?.metadata.created > 0 && found.metadata.created === found.metadata.updated);
      const { resources } = await store.list(scope);
      assert.deepEqual(resources.map(text), ["a", "b", "c"]);
      assert.deepEqual((await store.list(scope, labelled({ id: "c" }))).resources.map(text), ["c"]);
      assert.deepEqual((await store.list(scope, { id: /^[ab]$/ })).resources.map(text), ["a", "b"]);
      assert.equal(await store.get({ ...scope, id: "d" }), undefined);
      await fails(store.create(thing(scope, "a")), "already_exists");
    });

    test("an update needs the version, the owner and the phase that are stored", async () => {
      const scope = freshScope();
      const made = await store.create(thing(scope, "a"), { owner: "me" });
      const mine = { owner: "me" };
      await fails(store.update(made), "permission_denied");
      await fails(store.update(thing(scope, "b")), "not_found");
      const second = await store.update({ ...made, spec: bytes("2") }, mine);
      assert.equal(second.metadata.created, made.metadata.created);
      await fails(store.update(made, mine), "failed_precondition");
      await fails(store.update(second, { ...mine, expectedPhase: "tearingDown" }), "invalid_argument");
      const leaving = await store.update({ ...second, metadata: { ...second.metadata, phase: "tearingDown" } }, mine);
      await fails(store.update(leaving, mine), "invalid_argument");
      const back: Stored = { ...leaving, metadata: { ...leaving.metadata, phase: "running" } };
      await fails(store.update(back, { ...mine, expectedPhase: "any" }), "invalid_argument");
      await store.update(leaving, { ...mine, expectedPhase: "tearingDown" });
    });

    test("finalizers, owner and version guard destruction", async () => {
      const scope = freshScope();
      const key = { ...scope, id: "a" };
      const made = await store.create(thing(scope, "a", "", { finalizers: ["x"] }), { owner: "me" });
      await fails(store.destroy(key), "permission_denied");
      await fails(store.destroy(key, { owner: "me" }), "failed_precondition");
      const free = { ...made, metadata: { ...made.metadata, finalizers: [] } };
      await store.update(free, { owner: "me" });
      await fails(store.destroy(key, { owner: "me", version: 1 }), "failed_precondition");
      await store.destroy(key, { owner: "me", version: 2 });
      await fails(store.destroy(key, { owner: "me" }), "not_found");
      assert.equal((await store.create(thing(scope, "a"))).metadata.version, 1);
    });

    test("of two writers with the same version one wins", async () => {
      const scope = freshScope();
      const made = await store.create(thing(scope, "a"));
      const tries = ["x", "y", "z"].map((value) => store.update({ ...made, spec: bytes(value) }));
      const outcomes = await Promise.allSettled(tries);
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
      for (const outcome of outcomes)
        if (outcome.status === "rejected") assert.equal(codeOf(outcome.reason), "failed_precondition");
    });

    test("concurrent writers never lose an update", async () => {
      const setup = fc.record({
        keys: fc.integer({ min: 1, max: 3 }),
        writers: fc.array(fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 8 }), { minLength: 2, maxLength: 8 }),
      });
      await fc.assert(
        fc.asyncProperty(setup, async ({ keys, writers }) => {
          const scope = freshScope();
          for (let id = 0; id < keys; id++) await store.create(thing(scope, String(id), "0"));
          const expected = new Array<number>(keys).fill(0);
          await Promise.all(
            writers.map(async (steps, writer) => {
              for (const [index, pause] of steps.entries()) {
                const id = (writer + index) % keys;
                expected[id]!++;
                await increment(store, { ...scope, id: String(id) }, pause);
              }
            }),
          );
          const { resources } = await store.list(scope);
          assert.deepEqual(
            resources.map((stored) => Number(text(stored))),
            expected,
          );
          for (const { metadata } of resources) assert.equal(metadata.version, expected[Number(metadata.id)]! + 1);
        }),
        { numRuns: runs },
      );
    });

    test("a watch from any bookmark replays exactly what followed it", async () => {
      await fc.assert(
        fc.asyncProperty(operations, fc.infiniteStream(fc.nat()), async (steps, picks) => {
          const scope = freshScope();
          const bookmarks: Bookmark[] = [(await store.list(scope)).bookmark];
          const expected: unknown[] = [];
          for (const step of steps) {
            const event = await apply(store, scope, step);
            if (event === undefined) continue;
            expected.push(event);
            bookmarks.push((await store.list(scope)).bookmark);
          }
          await store.create(thing(scope, "end"));
          const start = picks.next().value! % bookmarks.length;
          const events = await collect(store, scope, { from: { bookmark: bookmarks[start]! } }, isEnd);
          assert.deepEqual(events.slice(0, -1).map(told), expected.slice(start));
          // And from any of the bookmarks that it gave itself.
          const index = picks.next().value! % events.length;
          await store.create(thing(scope, "after"));
          const resumed = await collect(store, scope, { from: { bookmark: events[index]!.bookmark } }, isAfter);
          assert.deepEqual(resumed.slice(0, -1).map(told), events.slice(index + 1).map(told));
        }),
        { numRuns: runs },
      );
    });

    test("list and bootstrap, then the changes after them, lead to what is there in the end", async () => {
      const from = fc.constantFrom("list" as const, "bootstrap" as const);
      await fc.assert(
        fc.asyncProperty(operations, operations, from, async (earlier, later, how) => {
          const scope = freshScope();
          for (const step of earlier) await apply(store, scope, step);
          // Writers and reader start together: where they meet is up to the store.
          const writing = (async () => {
            await Promise.all(later.map((step) => race(store, scope, step)));
            await store.create(thing(scope, "end"));
          })();
          const known = new Map<string, Stored>();
          let start: WatchOptions["from"] = "bootstrap";
          if (how === "list") {
            const { resources, bookmark } = await store.list(scope);
            for (const stored of resources) known.set(stored.metadata.id, stored);
            start = { bookmark };
          }
          for (const event of await collect(store, scope, { from: start }, isEnd)) {
            if (event.kind === "bootstrapped") continue;
            const { id } = event.resource.metadata;
            // Each event fits what is known: none is lost, none comes twice.
            assert.equal(known.has(id), event.kind !== "created");
            if (event.kind === "updated") assert.deepEqual(event.old, known.get(id));
            if (event.kind === "destroyed") known.delete(id);
            else known.set(id, event.resource);
          }
          await writing;
          const { resources } = await store.list(scope);
          assert.deepEqual(
            [...known.values()].sort((a, b) => (a.metadata.id < b.metadata.id ? -1 : 1)),
            resources,
          );
        }),
        { numRuns: runs },
      );
    });

    test("a filtered watch tells what moves into and out of the query", async () => {
      const scope = freshScope();
      const { bookmark } = await store.list(scope);
      const made = await store.create(thing(scope, "a"));
      const label = (stored: Stored, color: string) =>
        store.update({ ...stored, metadata: { ...stored.metadata, labels: { color } } });
      const red = await label(made, "red");
      const redder = await store.update({ ...red, spec: bytes("2") });
      await label(redder, "blue");
      await store.create(thing(scope, "b", "", { labels: { color: "red" } }));
      await store.destroy({ ...scope, id: "b" });
      await store.create(thing(scope, "c", "", { labels: { color: "red" } }));
      const query = labelled({ color: "red" });
      const seen = await collect(store, scope, { from: { bookmark }, query }, (_event, all) => all.length === 6);
      assert.deepEqual(seen.map(brief), [
        "created a",
        "updated a",
        "destroyed a",
        "created b",
        "destroyed b",
        "created c",
      ]);
      const one = await collect(store, scope, { from: { bookmark }, id: "b" }, (_event, all) => all.length === 2);
      assert.deepEqual(one.map(brief), ["created b", "destroyed b"]);
      const boot = await collect(store, scope, { from: "bootstrap", query }, ({ kind }) => kind === "bootstrapped");
      assert.deepEqual(boot.map(brief), ["created c", "bootstrapped"]);
    });

    test("a watch from now tells only what comes after the call, and ends with its signal", async () => {
      const scope = freshScope();
      await store.create(thing(scope, "old"));
      const stop = new AbortController();
      const events = store.watch(scope, { from: "now", signal: stop.signal })[Symbol.asyncIterator]();
      await store.create(thing(scope, "new"));
      assert.equal(brief((await events.next()).value), "created new");
      const pending = events.next();
      stop.abort();
      assert.equal((await pending).done, true);
    });

    test("what is compacted cannot be replayed, what came later can", async () => {
      const scope = freshScope();
      const quiet = freshScope();
      const bookmarks: Bookmark[] = [];
      const silence = new AbortController();
      const still = store.watch(quiet, { from: "now", signal: silence.signal })[Symbol.asyncIterator]();
      for (const id of ["a", "b", "c", "end"]) {
        bookmarks.push((await store.list(scope)).bookmark);
        await store.create(thing(scope, id));
      }
      const waiting = still.next();
      await store.compact(bookmarks[2]!);
      const replay = (bookmark: Bookmark) => collect(store, scope, { from: { bookmark } }, isEnd);
      await fails(replay(bookmarks[0]!), "out_of_range");
      await fails(replay(bookmarks[1]!), "out_of_range");
      assert.deepEqual((await replay(bookmarks[2]!)).map(brief), ["created c", "created end"]);
      assert.equal((await store.list(scope)).resources.length, 4);
      // A watch that had nothing to miss goes on.
      await store.create(thing(quiet, "a"));
      assert.equal(brief((await waiting).value), "created a");
      silence.abort();
    });

    test("a text that is no bookmark, and one of another store, are refused", async () => {
      const scope = freshScope();
      const from = (bookmark: string) => collect(store, scope, { from: { bookmark } }, isEnd);
      await fails(from("yesterday"), "invalid_argument");
      const other = await open();
      await other.create(thing(scope, "a"));
      const { bookmark } = await other.list(scope);
      await fails(from(bookmark), "out_of_range");
      await other.close();
    });

    test("after close nothing answers, and watches have ended", async () => {
      const scope = freshScope();
      const other = await open();
      const events = other.watch(scope, { from: "now", signal: new AbortController().signal })[Symbol.asyncIterator]();
      const pending = events.next();
      const write = other.create(thing(scope, "a"));
      await other.close();
      // What was accepted is finished.
      assert.equal((await write).metadata.version, 1);
      assert.equal(brief((await pending).value), "created a");
      assert.equal((await events.next()).done, true);
      await fails(other.get({ ...scope, id: "a" }), "unavailable");
      await fails(other.create(thing(scope, "b")), "unavailable");
    });
  });
}

async function increment(store: Store, key: Key, pause: number): Promise<void> {
  for (;;) {
    const current = (await store.get(key))!;
    for (let turn = 0; turn < pause; turn++) await new Promise((resolve) => setImmediate(resolve));
    try {
      await store.update({ ...current, spec: bytes(String(Number(text(current)) + 1)) });
      return;
    } catch (error) {
      if (codeOf(error) !== "failed_precondition") throw error;
    }
  }
}

function brief(event: StoreEvent): string {
  return event.kind === "bootstrapped" ? event.kind : `${event.kind} ${event.resource.metadata.id}`;
}

function isEnd(event: StoreEvent): boolean {
  return event.kind === "created" && event.resource.metadata.id === "end";
}

function isAfter(event: StoreEvent): boolean {
  return event.kind === "created" && event.resource.metadata.id === "after";
}
