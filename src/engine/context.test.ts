import assert from "node:assert/strict";
import { test } from "node:test";
import type { StringValue } from "@bufbuild/protobuf/wkt";
import { type Code, codeOf } from "#lib/errors.ts";
import type { Draft } from "#store/state.ts";
import type { Context, Controller } from "./controller.ts";
import { controller, TestEngine, textKind } from "./testing.ts";

const Inputs = textKind("Inputs");
const Outputs = textKind("Outputs");
const Others = textKind("Others");
const idle = async () => {};
const set =
  (value: string) =>
  ({ spec }: Draft<StringValue>): void => {
    spec.value = value;
  };

/** Runs one reconcile with a controller that declares what `parts` says. */
async function once(
  parts: Partial<Controller>,
  reconcile: (context: Context) => Promise<unknown>,
  prepare: (test: TestEngine) => Promise<unknown> = idle,
): Promise<TestEngine> {
  const given = Promise.withResolvers<void>();
  const bench = new TestEngine([
    controller("tested", {
      inputs: [{ kind: Inputs }],
      ...parts,
      reconcile: (_key, context) => reconcile(context).then(() => given.resolve(), given.reject),
    }),
  ]);
  await bench.state.create(Inputs, "a", { value: "1" });
  await prepare(bench);
  bench.engine.start();
  try {
    await given.promise;
    return bench;
  } finally {
    await bench.engine.stop();
  }
}

const refused = (code: Code, words: RegExp) => (error: unknown) => {
  assert.equal(codeOf(error), code);
  assert.match(String(error), words);
  return true;
};

test("one writer per kind, unless both share it; one controller per name", () => {
  const writer = (name: string, shared?: boolean) =>
    controller(name, { outputs: [{ kind: Outputs, ...(shared ? { shared } : {}) }], reconcile: idle });
  const make = (...controllers: Controller[]) => new TestEngine(controllers);
  assert.throws(
    () => make(writer("first"), writer("second")),
    refused("invalid_argument", /Outputs\.test is written by "first" and by "second"/),
  );
  assert.throws(
    () => make(writer("first", true), writer("second")),
    refused("invalid_argument", /one writer per kind/),
  );
  assert.throws(
    () => make(writer("first"), writer("second", true)),
    refused("invalid_argument", /one writer per kind/),
  );
  make(writer("first", true), writer("second", true));
  assert.throws(
    () => make(controller("same", { reconcile: idle }), controller("same", { reconcile: idle })),
    refused("invalid_argument", /two controllers are named "same"/),
  );
});

test("what is not declared is neither read nor written nor held", async () => {
  const outputs = [{ kind: Outputs }];
  const denied: [(context: Context) => Promise<unknown>, RegExp][] = [
    [(context) => context.get(Others, "a"), /tested reads Others\.test without declaring it/],
    [(context) => context.list(Others), /tested reads Others\.test/],
    [(context) => context.modify(Others, "a", () => {}), /tested writes Others\.test/],
    // An input is not an output.
    [(context) => context.modify(Inputs, "a", () => {}), /tested writes Inputs\.test/],
    [(context) => context.remove(Inputs, "a"), /tested writes Inputs\.test/],
    [(context) => context.hold(Inputs.key("a")), /tested holds Inputs\.test/],
    [(context) => context.hold(Outputs.key("a")), /tested holds Outputs\.test/],
  ];
  for (const [act, words] of denied) {
    await assert.rejects(
      once({ outputs }, async (context) => act(context)),
      refused("permission_denied", words),
    );
  }
});

test("outputs may be read, are written in the controller's name, and belong to nobody else", async () => {
  const bench = await once({ outputs: [{ kind: Outputs }] }, async (context) => {
    await context.modify(Outputs, "a", set("made"));
    assert.equal((await context.get(Outputs, "a"))?.spec.value, "made");
    assert.equal((await context.list(Outputs)).length, 1);
    const { version } = (await context.modify(Outputs, "a", set("made"))).metadata;
    assert.equal(version, 1, "an edit without effect writes nothing");
  });
  assert.equal((await bench.state.get(Outputs, "a"))?.metadata.owner, "tested");
  await assert.rejects(
    bench.state.update(Outputs, "a", set("taken")),
    refused("permission_denied", /belongs to tested/),
  );
});

test("the output of another is not taken over, not even where the kind is shared", async () => {
  const outputs = [{ kind: Outputs, shared: true }];
  const prepare = ({ state }: TestEngine) => state.as("another").create(Outputs, "a", { value: "theirs" });
  for (const act of [
    (context: Context) => context.modify(Outputs, "a", set("mine")),
    (context: Context) => context.remove(Outputs, "a"),
  ])
    await assert.rejects(once({ outputs }, act, prepare), refused("permission_denied", /belongs to another/));
});

test("an input that goes cannot be held any more, and a hold keeps it from being destroyed", async () => {
  const inputs = [{ kind: Inputs, holds: true }];
  await assert.rejects(
    once(
      { inputs },
      (context) => context.hold(Inputs.key("b")),
      async ({ state }) => {
        await state.create(Inputs, "b", {}, { finalizers: ["somebody"] });
        await state.teardown(Inputs.key("b"));
      },
    ),
    refused("invalid_argument", /tearingDown/),
  );
  const bench = await once({ inputs }, (context) => context.hold(Inputs.key("a")));
  assert.equal(await bench.state.teardown(Inputs.key("a")), false);
  await assert.rejects(bench.state.destroy(Inputs.key("a")), refused("failed_precondition", /held by tested/));
  const again = await once({ inputs }, async (context) => {
    await context.release(Inputs.key("a"));
    await context.release(Inputs.key("gone"));
  });
  assert.equal(await again.state.teardown(Inputs.key("a")), true);
});

test("an output that others hold is torn down, and the key wakes when they let go", async () => {
  const answers: boolean[] = [];
  const bench = new TestEngine([
    controller("tested", {
      inputs: [{ kind: Inputs }],
      outputs: [{ kind: Outputs }],
      reconcile: async (key, context) => void answers.push(await context.remove(Outputs, key)),
    }),
  ]);
  await bench.state.as("tested").create(Outputs, "a", {}, { finalizers: ["one", "two"] });
  await bench.state.create(Inputs, "a", {});
  bench.engine.start();
  await bench.turn();
  assert.deepEqual(answers, [false]);
  assert.equal((await bench.state.get(Outputs, "a"))?.metadata.phase, "tearingDown");
  await bench.state.removeFinalizer(Outputs.key("a"), "one");
  await bench.turn();
  assert.deepEqual(answers, [false]);
  await bench.state.removeFinalizer(Outputs.key("a"), "two");
  await bench.turn();
  // Its own end may wake the key once more.
  assert.deepEqual(answers.slice(0, 2), [false, true]);
  assert.ok(answers.slice(2).every(Boolean));
  assert.equal(await bench.state.get(Outputs, "a"), undefined);
  await bench.engine.stop();
  assert.equal(bench.clock.pending, 0);
});
