import assert from "node:assert/strict";
import { test } from "node:test";
import { abortable } from "#lib/abort.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Metadata } from "#resource/resource.ts";
import type { Store } from "#store/store.ts";
import type { Controller } from "./controller.ts";
import { toDot } from "./graph.ts";
import { controller, TestEngine, textKind } from "./testing.ts";

const Inputs = textKind("Inputs");
const Others = textKind("Others");
const Outputs = textKind("Outputs");

/** A controller that notes its keys. */
function noting(parts: Partial<Controller> = {}): { keys: string[]; controller: Controller } {
  const keys: string[] = [];
  return {
    keys,
    controller: controller("noting", {
      inputs: [{ kind: Inputs }],
      reconcile: async (key) => void keys.push(key),
      ...parts,
    }),
  };
}

test("a controller that throws is tried again alone; its status says so, and that it recovered", async () => {
  let broken = true;
  const good = noting();
  const bench = new TestEngine([
    controller("throwing", {
      inputs: [{ kind: Inputs }],
      reconcile: async (key) => {
        if (broken && key === "bad") throw new Error("no answer from the machine");
      },
    }),
    good.controller,
  ]);
  const told: string[] = [];
  bench.engine.onStatus((name) => {
    told.push(name);
    throw new Error("a listener that throws stops nothing");
  });
  bench.engine.start();
  for (const id of ["bad", "fine"]) await bench.state.create(Inputs, id, {});
  const since = bench.clock.now();
  await bench.turn();
  bench.clock.advance(1000);
  await bench.turn();
  bench.clock.advance(1000);
  await bench.turn();
  const [throwing, noted] = bench.engine.status();
  assert.equal(throwing?.failing.length, 1);
  const { attempts, ...failing } = throwing!.failing[0]!;
  assert.deepEqual(failing, { key: "bad", error: "no answer from the machine", since });
  assert.ok(attempts >= 3);
  assert.equal(throwing?.failures, attempts);
  assert.equal(throwing?.reconciles, attempts + 1);
  assert.equal(bench.engine.failing("throwing"), 1);
  assert.deepEqual([noted?.failures, noted?.reconciles, good.keys.sort()], [0, 2, ["bad", "fine"]]);
  assert.equal(told.filter((name) => name === "throwing").length, attempts + 1);
  broken = false;
  await bench.settle();
  assert.deepEqual(bench.engine.status()[0]?.failing, []);
  assert.equal(bench.engine.failing("throwing"), 0);
  await bench.engine.stop();
});

test("a reconcile that takes too long is aborted, and says how long it had", async () => {
  const bench = new TestEngine([
    controller("hanging", {
      inputs: [{ kind: Inputs }],
      timeout: 5000,
      reconcile: (_key, { signal }) => abortable(new Promise(() => {}), signal),
    }),
  ]);
  bench.engine.start();
  await bench.state.create(Inputs, "a", {});
  // It runs until the time is over: the engine is not idle before.
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(bench.engine.status()[0]?.running, 1);
  bench.clock.advance(4999);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(bench.engine.status()[0]?.running, 1);
  bench.clock.advance(1);
  await bench.turn();
  assert.equal(bench.engine.status()[0]?.failing[0]?.error, "took longer than 5 s");
  assert.equal(bench.engine.status()[0]?.seconds, 5);
  await bench.engine.stop();
});

test("stopping aborts what runs, waits for it, closes controllers, and lets nothing start any more", async () => {
  const events: string[] = [];
  const { keys, controller: late } = noting();
  const bench = new TestEngine([
    controller("long", {
      inputs: [{ kind: Inputs }],
      async reconcile(_key, { signal }) {
        await abortable(new Promise(() => {}), signal).catch((error) => events.push(codeOf(error)));
        events.push("done");
      },
      async close() {
        events.push("closed");
      },
    }),
    late,
  ]);
  bench.engine.start();
  await bench.state.create(Inputs, "a", {});
  await new Promise((resolve) => setImmediate(resolve));
  await bench.engine.stop();
  assert.deepEqual(events, ["aborted", "done", "closed"]);
  await bench.state.create(Inputs, "b", {});
  bench.clock.advance(1e9);
  await bench.turn();
  assert.deepEqual(keys, ["a"]);
  assert.equal(bench.clock.pending, 0);
});

test("everything is looked at again from time to time, with jitter, where a controller asks for it", async () => {
  const asked: number[] = [];
  const never = noting();
  const bench = new TestEngine([
    controller("resyncing", {
      inputs: [{ kind: Inputs }, { kind: Others, wakes: () => [] }],
      resync: 60_000,
      reconcile: async () => void asked.push(bench.clock.monotonic()),
    }),
    never.controller,
  ]);
  await bench.state.create(Inputs, "a", {});
  await bench.state.create(Others, "b", {});
  bench.engine.start();
  await bench.turn();
  for (let second = 0; second < 660; second++) {
    bench.clock.advance(1000);
    await bench.turn();
  }
  const waits = asked.slice(1).map((time, index) => time - asked[index]!);
  assert.ok(waits.length >= 9, `${waits.length} rounds`);
  assert.ok(
    waits.every((wait) => wait >= 54_000 && wait <= 67_000),
    waits.join(),
  );
  assert.ok(new Set(waits).size > 1, "the jitter is not one");
  assert.deepEqual(never.keys, ["a"]);
  await bench.engine.stop();
  assert.equal(bench.clock.pending, 0);
});

test("a change wakes the keys it concerns, also those that it concerned before", async () => {
  const { keys, controller: owner } = noting({
    inputs: [{ kind: Inputs, wakes: ({ labels }) => (labels.owner ? [labels.owner] : []) }],
  });
  const bench = new TestEngine([owner]);
  bench.engine.start();
  await bench.state.create(Inputs, "a", {}, { labels: { owner: "first" } });
  await bench.turn();
  await bench.state.update(Inputs, "a", ({ labels }) => {
    labels.owner = "second";
  });
  await bench.turn();
  await bench.state.destroy(Inputs.key("a"));
  await bench.turn();
  assert.deepEqual(keys, ["first", "second", "first", "second"]);
  // Who holds what runs is nobody's concern; that it goes is.
  await bench.state.create(Inputs, "b", {}, { labels: { owner: "third" } });
  await bench.turn();
  await bench.state.addFinalizer(Inputs.key("b"), "somebody");
  await bench.turn();
  assert.equal(keys.length, 5);
  await bench.state.teardown(Inputs.key("b"));
  await bench.turn();
  assert.deepEqual(keys.slice(4), ["third", "third"]);
  await bench.state.removeFinalizer(Inputs.key("b"), "somebody");
  await bench.turn();
  assert.equal(keys.length, 7);
  await bench.engine.stop();
});

test("a change whose keys cannot be told is asked again, and is not lost", async () => {
  let broken = true;
  const { keys, controller: owner } = noting({
    inputs: [
      {
        kind: Inputs,
        wakes: async ({ labels }: Metadata) => {
          if (broken) throw new IchorError("unavailable", "the index is being built");
          return [labels.owner ?? "none"];
        },
      },
    ],
  });
  const bench = new TestEngine([owner]);
  await bench.state.create(Inputs, "a", {}, { labels: { owner: "first" } });
  bench.engine.start();
  await bench.turn();
  await bench.state.update(Inputs, "a", ({ labels }) => {
    labels.owner = "second";
  });
  await bench.turn();
  const [failing] = bench.engine.status()[0]!.failing;
  assert.deepEqual([failing?.key, failing?.error], ["Inputs.test a", "the index is being built"]);
  assert.equal(bench.engine.failing("noting"), 1);
  broken = false;
  await bench.settle();
  assert.deepEqual([...new Set(keys)].sort(), ["first", "second"]);
  assert.equal(bench.engine.failing("noting"), 0);
  await bench.engine.stop();
});

test("what comes and goes while the watch is broken is not missed", async () => {
  for (const code of ["unavailable", "out_of_range", "resource_exhausted"] as const) {
    let gap: Promise<void> | undefined;
    const { promise: broken, reject: tear } = Promise.withResolvers<never>();
    broken.catch(() => {});
    const wrap = (store: Store): Store =>
      new Proxy(store, {
        get(target, name: keyof Store) {
          if (name !== "watch") return (target[name] as (...args: unknown[]) => unknown).bind(target);
          return async function* (...args: Parameters<Store["watch"]>) {
            if (gap) await gap;
            const events = target.watch(...args)[Symbol.asyncIterator]();
            for (;;) {
              const next = await (gap ? events.next() : Promise.race([events.next(), broken]));
              if (next.done) return;
              yield next.value;
            }
          };
        },
      });
    const { keys, controller: owner } = noting();
    const bench = new TestEngine([owner], wrap);
    for (const id of ["stays", "goes", "changes"]) await bench.state.create(Inputs, id, {});
    bench.engine.start();
    await bench.turn();
    keys.splice(0);
    const { promise, resolve } = Promise.withResolvers<void>();
    gap = promise;
    tear(new IchorError(code, "the watch broke"));
    await bench.turn();
    await bench.state.destroy(Inputs.key("goes"));
    await bench.state.create(Inputs, "comes", {});
    await bench.state.update(Inputs, "changes", ({ spec }) => {
      spec.value = "new";
    });
    await bench.turn();
    assert.equal(keys.length, 0);
    resolve();
    bench.clock.advance(60_000);
    await bench.turn();
    for (const id of ["goes", "comes", "changes"]) assert.ok(keys.includes(id), `${code}: ${id} was missed`);
    // A place that the store still knows is gone on from: nothing else is looked at.
    assert.equal(keys.includes("stays"), code !== "unavailable", code);
    await bench.engine.stop();
  }
});

test("ids that are secrets are in no status and no log, and what fails for them can still be told apart", async () => {
  const Secrets = textKind("Secrets", true);
  const lines: string[] = [];
  const write = (facts: object, message: string) => void lines.push(`${message} ${JSON.stringify(facts)}`);
  const logger = (more: object): Logger => ({
    debug: (facts, message) => write({ ...more, ...facts }, message),
    info: (facts, message) => write({ ...more, ...facts }, message),
    warn: (facts, message) => write({ ...more, ...facts }, message),
    error: (facts, message) => write({ ...more, ...facts }, message),
    child: (facts) => logger({ ...more, ...facts }),
  });
  const fail = async (key: string) => {
    throw new Error(`"${key}" does not exist`);
  };
  const bench = new TestEngine(
    [
      controller("keyed", {
        inputs: [{ kind: Secrets }],
        reconcile: async (key, { log }) => {
          log.info({}, "looking");
          await fail(key);
        },
      }),
      controller("woken", {
        inputs: [{ kind: Inputs }, { kind: Secrets, wakes: () => Promise.reject(new Error("no index")) }],
        reconcile: fail,
      }),
    ],
    (store) => store,
    logger({}),
  );
  for (const id of ["canary-one", "canary-two"]) await bench.state.create(Secrets, id, {});
  await bench.state.create(Inputs, "plain", {});
  bench.engine.start();
  await bench.turn();
  const status = JSON.stringify(bench.engine.status());
  assert.ok(!`${status}${lines.join()}`.includes("canary"), `${status}\n${lines.join("\n")}`);
  const [keyed, woken] = bench.engine.status();
  assert.equal(new Set(keyed?.failing.map(({ key }) => key)).size, 2);
  const [first] = keyed?.failing ?? [];
  assert.match(first?.key ?? "", /^sha256:[0-9a-f]{12}$/);
  assert.equal(first?.error, `"${first?.key}" does not exist`);
  assert.equal(woken?.failing.length, 3);
  assert.ok(lines.some((line) => line.startsWith("looking") && line.includes(`"id":"${first?.key}"`)));
  assert.ok(lines.some((line) => line.includes('"id":"plain"') && line.includes('\\"plain\\" does not exist')));
  await bench.engine.stop();
});

test("metrics tell reconciles, failures, waiting keys and times of each controller", async () => {
  const bench = new TestEngine([
    controller("works", { inputs: [{ kind: Inputs }], reconcile: async () => {} }),
    controller("fails", {
      inputs: [{ kind: Inputs }],
      reconcile: async () => {
        throw new Error("no");
      },
    }),
  ]);
  bench.engine.start();
  for (const id of ["a", "b", "c"]) await bench.state.create(Inputs, id, {});
  await bench.turn();
  const lines = (await bench.metrics.metrics()).split("\n");
  for (const line of [
    'ichor_controller_reconciles_total{controller="works"} 3',
    'ichor_controller_reconciles_total{controller="fails"} 3',
    'ichor_controller_failures_total{controller="fails"} 3',
    'ichor_controller_queue_length{controller="works"} 0',
    'ichor_controller_reconcile_seconds_count{controller="works"} 3',
  ])
    assert.ok(lines.includes(line), `${line} is missing in\n${lines.join("\n")}`);
  assert.ok(!lines.some((line) => line.startsWith('ichor_controller_failures_total{controller="works"}')));
  await bench.engine.stop();
});

test("the graph names each kind and controller once, with arrows of what is read, held and written", () => {
  const graph = toDot([
    controller("config", {
      inputs: [{ kind: Inputs, holds: true }, { kind: Others }],
      outputs: [{ kind: Outputs }],
      reconcile: async () => {},
    }),
    { ...noting().controller, purpose: 'says "hello"', inputs: [{ kind: Outputs }] },
  ]);
  assert.equal(
    graph,
    `digraph ichor {
  rankdir=LR;
  node [fontname="sans-serif"];
  "Inputs.test" [shape=ellipse];
  "Others.test" [shape=ellipse];
  "Outputs.test" [shape=ellipse];
  "config" [shape=box, style=filled, fillcolor="#fdf1d8", tooltip="is tested as config"];
  "Inputs.test" -> "config" [style=dashed];
  "Others.test" -> "config";
  "config" -> "Outputs.test";
  "noting" [shape=box, style=filled, fillcolor="#fdf1d8", tooltip="says \\"hello\\""];
  "Outputs.test" -> "noting";
}
`,
  );
});
