import assert from "node:assert/strict";
import { test } from "node:test";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import { ManualClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import type { Scope, StoreEvent, WatchOptions } from "#store/store.ts";
import { eventually } from "./fixtures.test.ts";
import { follow } from "./follow.ts";

/** A store whose watches can be broken. */
class BreakingStore extends MemoryStore {
  break: () => void = () => {};
  refuse = false;

  override async *watch(scope: Scope, options: WatchOptions): AsyncGenerator<StoreEvent> {
    if (this.refuse) throw new IchorError("unavailable", "not now");
    const stop = new AbortController();
    this.break = () => stop.abort();
    yield* super.watch(scope, { ...options, signal: AbortSignal.any([options.signal, stop.signal]) });
    if (stop.signal.aborted) throw new IchorError("resource_exhausted", "fell behind");
  }
}

test("a broken watch is started anew, and what went away meanwhile is removed", async (t) => {
  const clock = new ManualClock();
  const store = new BreakingStore({ clock });
  const state = new State(store);
  const stop = new AbortController();
  t.after(() => stop.abort());
  const seen = new Map<string, string>();
  let ready = 0;
  const done = follow(
    ClusterUUIDKind,
    {
      put: ({ metadata, spec }) => void seen.set(metadata.id, spec.uuid),
      remove: (id) => void seen.delete(id),
      ready: () => ready++,
    },
    { state, clock, log: silent, signal: stop.signal },
  );
  await state.create(ClusterUUIDKind, "stays", { uuid: "1" });
  await state.create(ClusterUUIDKind, "goes", { uuid: "1" });
  await eventually(() => ready === 1 && seen.size === 2, "both are seen");
  store.refuse = true;
  store.break();
  await eventually(() => clock.pending === 1, "it waits before the next try");
  await state.destroy(ClusterUUIDKind.key("goes"));
  await state.update(ClusterUUIDKind, "stays", ({ spec }) => {
    spec.uuid = "2";
  });
  clock.advance(60_000);
  await eventually(() => clock.pending === 1, "it waits again");
  store.refuse = false;
  clock.advance(60_000);
  await eventually(() => ready === 2, "it has caught up");
  assert.deepEqual([...seen], [["stays", "2"]]);
  stop.abort();
  await done;
  assert.equal(clock.pending, 0);
});
