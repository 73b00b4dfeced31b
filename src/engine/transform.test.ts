import assert from "node:assert/strict";
import { test } from "node:test";
import type { StringValue } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { codeOf, IchorError } from "#lib/errors.ts";
import type { Kind } from "#resource/kind.ts";
import type { State } from "#store/state.ts";
import type { Store } from "#store/store.ts";
import { controller, TestEngine, textKind } from "./testing.ts";
import { type TransformOptions, transform } from "./transform.ts";

const Inputs = textKind("Inputs");
const Outputs = textKind("Outputs");
const Lasts = textKind("Lasts");

type Options = TransformOptions<StringValue, StringValue>;

/** Outputs say what their input says, in capitals. */
function capitals(parts: Partial<Options> = {}): Options {
  return {
    name: "capitals",
    purpose: "says it loudly",
    input: Inputs,
    output: Outputs,
    transform:
      async (_context, { spec }) =>
      (draft) => {
        draft.spec.value = spec.value.toUpperCase();
      },
    ...parts,
  };
}

async function texts(state: State, kind: Kind<StringValue>): Promise<Record<string, string>> {
  return Object.fromEntries((await state.list(kind)).map(({ metadata, spec }) => [metadata.id, spec.value]));
}

async function write(state: State, id: string, value: string): Promise<void> {
  await state.modify(Inputs, id, ({ spec }) => {
    spec.value = value;
  });
}

test("each running input has its output, and is held", async () => {
  const bench = new TestEngine([transform(capitals())]);
  await write(bench.state, "before", "a");
  bench.engine.start();
  await write(bench.state, "after", "b");
  await bench.turn();
  assert.deepEqual(await texts(bench.state, Outputs), { before: "A", after: "B" });
  assert.deepEqual((await bench.state.get(Inputs, "after"))?.metadata.finalizers, ["capitals"]);
  await write(bench.state, "after", "c");
  await bench.turn();
  assert.deepEqual(await texts(bench.state, Outputs), { before: "A", after: "C" });
  await bench.engine.stop();
});

test("when an input goes: side effects are undone, the output goes, the input is let go, in that order", async () => {
  const order: string[] = [];
  let ready = false;
  const bench = new TestEngine([
    transform(
      capitals({
        teardown: async (context, { metadata }) => {
          order.push(`teardown, output ${(await context.get(Outputs, metadata.id)) ? "there" : "gone"}`);
          if (!ready) context.again(1000);
          return ready;
        },
      }),
    ),
  ]);
  await write(bench.state, "a", "a");
  bench.engine.start();
  await bench.turn();
  assert.equal(await bench.state.teardown(Inputs.key("a")), false);
  await bench.turn();
  assert.deepEqual(order, ["teardown, output there"]);
  assert.ok(await bench.state.get(Outputs, "a"));
  ready = true;
  bench.clock.advance(1000);
  await bench.turn();
  assert.equal(await bench.state.get(Outputs, "a"), undefined);
  assert.deepEqual((await bench.state.get(Inputs, "a"))?.metadata.finalizers, []);
  await bench.state.destroy(Inputs.key("a"));
  await bench.turn();
  await bench.engine.stop();
});

test("an output that others hold keeps its input until they let go", async () => {
  const bench = new TestEngine([transform(capitals())]);
  await write(bench.state, "a", "a");
  bench.engine.start();
  await bench.turn();
  await bench.state.addFinalizer(Outputs.key("a"), "reader");
  await bench.state.teardown(Inputs.key("a"));
  await bench.turn();
  assert.equal((await bench.state.get(Outputs, "a"))?.metadata.phase, "tearingDown");
  assert.deepEqual((await bench.state.get(Inputs, "a"))?.metadata.finalizers, ["capitals"]);
  await bench.state.removeFinalizer(Outputs.key("a"), "reader");
  await bench.turn();
  assert.deepEqual(await texts(bench.state, Outputs), {});
  assert.deepEqual((await bench.state.get(Inputs, "a"))?.metadata.finalizers, []);
  await bench.engine.stop();
});

test("an input that leaves the mapping loses its output, and gets a new one when it comes back", async () => {
  const bench = new TestEngine([
    transform(
      capitals({
        transform: async (_context, { spec }) =>
          spec.value === "no"
            ? "remove"
            : spec.value === "later"
              ? false
              : (draft) => {
                  draft.spec.value = spec.value;
                },
      }),
    ),
  ]);
  bench.engine.start();
  const follow = async (value: string) => {
    await write(bench.state, "a", value);
    await bench.turn();
    return (await texts(bench.state, Outputs)).a;
  };
  assert.equal(await follow("later"), undefined);
  assert.equal(await follow("yes"), "yes");
  assert.equal(await follow("later"), "yes");
  assert.equal(await follow("no"), undefined);
  assert.equal(await follow("again"), "again");
  // Still leaving when it is wanted again: it makes room first.
  await bench.state.addFinalizer(Outputs.key("a"), "reader");
  assert.equal(await follow("no"), "again");
  assert.equal(await follow("new"), "again");
  await bench.state.removeFinalizer(Outputs.key("a"), "reader");
  await bench.turn();
  const output = await bench.state.get(Outputs, "a");
  assert.deepEqual([output?.spec.value, output?.metadata.phase, output?.metadata.version], ["new", "running", 1]);
  await bench.engine.stop();
});

// A chain of two mappings under any changes and any failures.

const change = fc.record({
  op: fc.constantFrom("write", "write", "destroy", "time"),
  id: fc.constantFrom("a", "b", "c"),
  value: fc.constantFrom("x", "y", "no", "z"),
});
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

/** Fails as often as it is told to; then never again. */
class Luck {
  readonly #draws: boolean[];
  at = 0;
  constructor(draws: readonly boolean[]) {
    this.#draws = [...draws];
  }
  /** Draws go by in turn; when they are over, all goes well. */
  draw(): void {
    if (this.#draws[this.at++]) throw new IchorError("unavailable", "bad luck");
  }
  end(): void {
    this.#draws.length = 0;
  }
}

/** A store whose writes and watches fail now and then: before the write, or after it, when the answer is lost. */
function unreliable(store: Store, luck: Luck): Store {
  const risky = async <T>(work: () => Promise<T>): Promise<T> => {
    luck.draw();
    const done = await work();
    luck.draw();
    return done;
  };
  return {
    get: (key) => store.get(key),
    list: (scope, query) => store.list(scope, query),
    create: (resource, options) => risky(() => store.create(resource, options)),
    update: (resource, options) => risky(() => store.update(resource, options)),
    destroy: (key, options) => risky(() => store.destroy(key, options)),
    async *watch(scope, options) {
      for await (const event of store.watch(scope, options)) {
        luck.draw();
        yield event;
      }
    },
    compact: (bookmark) => store.compact(bookmark),
    close: () => store.close(),
  };
}

async function apply(bench: TestEngine, { op, id, value }: Change): Promise<void> {
  const { state } = bench;
  if (op === "time") bench.clock.advance(5000);
  else if (op === "write") {
    // Nothing comes back before it is gone.
    if ((await state.get(Inputs, id))?.metadata.phase !== "tearingDown") await write(state, id, value);
  } else if (await state.get(Inputs, id)) await state.teardown(Inputs.key(id));
}

/** As a user's tool does it: destroys what was to go as soon as nothing holds it. */
async function sweep({ state }: TestEngine): Promise<number> {
  const leaving = (await state.list(Inputs)).filter(({ metadata }) => metadata.phase === "tearingDown");
  for (const { metadata } of leaving)
    await state.destroy(metadata).catch((error) => assert.equal(codeOf(error), "failed_precondition"));
  return leaving.length;
}

test("whatever changes and fails: in the end outputs are the mapping of inputs, and nothing is left behind", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(change, { maxLength: 25 }),
      fc.array(fc.boolean(), { maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (changes, draws, concurrency) => {
        const luck = new Luck(draws);
        /** Side effects outside of the store, which teardown undoes. */
        const outside = new Map<string, string>();
        const chain = [
          transform(
            capitals({
              concurrency,
              async transform(_context, { metadata, spec }) {
                luck.draw();
                if (spec.value === "no") return "remove";
                outside.set(metadata.id, spec.value);
                luck.draw();
                return (draft) => {
                  draft.spec.value = spec.value.toUpperCase();
                };
              },
              async teardown(_context, { metadata }) {
                luck.draw();
                outside.delete(metadata.id);
                return true;
              },
            }),
          ),
          transform(capitals({ name: "lasts", input: Outputs, output: Lasts })),
        ];
        const bench = new TestEngine(chain, (store) => unreliable(store, luck));
        const { state, clock } = bench;
        bench.engine.start();
        for (const each of changes) {
          await apply(bench, each);
          await bench.turn();
          await sweep(bench);
        }
        luck.end();
        do await bench.settle();
        while ((await sweep(bench)) > 0);
        const inputs = await texts(state, Inputs);
        const expected = Object.fromEntries(
          Object.entries(inputs)
            .filter(([, value]) => value !== "no")
            .map(([id, value]) => [id, value.toUpperCase()]),
        );
        assert.deepEqual(await texts(state, Outputs), expected);
        assert.deepEqual(await texts(state, Lasts), expected);
        assert.ok([...outside.keys()].every((id) => id in inputs));
        for (const id of Object.keys(inputs)) await state.teardown(Inputs.key(id));
        do await bench.settle();
        while ((await sweep(bench)) > 0);
        for (const kind of [Inputs, Outputs, Lasts]) assert.deepEqual(await texts(state, kind), {});
        assert.equal(outside.size, 0);
        assert.deepEqual(
          bench.engine.status().flatMap(({ failing }) => failing),
          [],
        );
        await bench.engine.stop();
        assert.equal(clock.pending, 0);
      },
    ),
    { numRuns: 120 },
  );
});

test("an output may be shared by mappings that own different ones", async () => {
  const only = (name: string, id: string) =>
    transform(
      capitals({
        name,
        shared: true,
        transform: async (_context, { metadata }) =>
          metadata.id === id
            ? (draft) => {
                draft.spec.value = name;
              }
            : false,
      }),
    );
  const bench = new TestEngine([only("one", "a"), only("two", "b"), controller("none", { reconcile: async () => {} })]);
  bench.engine.start();
  for (const id of ["a", "b", "c"]) await write(bench.state, id, "x");
  await bench.turn();
  assert.deepEqual(await texts(bench.state, Outputs), { a: "one", b: "two" });
  for (const id of ["a", "b", "c"]) await bench.state.teardown(Inputs.key(id));
  await bench.settle();
  assert.deepEqual(await texts(bench.state, Outputs), {});
  assert.deepEqual(
    (await bench.state.list(Inputs)).flatMap(({ metadata }) => metadata.finalizers),
    [],
  );
  await bench.engine.stop();
});
