// Run and killed by crash.test.ts: opens the store, prints what is there, then writes with many writers, each write printed once it is answered.
import { createInterface } from "node:readline";
import { systemClock } from "#lib/clock.ts";
import { newMetadata } from "#resource/resource.ts";
import { resultOf } from "./crash-step.ts";
import { openSqliteStore } from "./sqlite.ts";

const scope = { namespace: "test", type: "Things.test" };
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
// Waited for: no writer gets further than one step ahead of what was printed.
const say = (text: string) => new Promise<void>((resolve) => process.stdout.write(`${text}\n`, () => resolve()));

await say("waiting");
const path = String((await lines.next()).value);
const store = await openSqliteStore({ path, clock: systemClock });
const { resources } = await store.list(scope);
await say(
  `found ${JSON.stringify(resources.map(({ metadata, spec }) => [metadata.id, Buffer.from(spec).toString()]))}`,
);

const starts = JSON.parse(String((await lines.next()).value)) as number[];
await Promise.all(
  starts.map(async (start, writer) => {
    const key = { ...scope, id: String(writer) };
    for (let step = start; ; step++) {
      const content = resultOf(step);
      const current = await store.get(key);
      const spec = Buffer.from(content ?? "");
      if (content === undefined) await store.destroy(key);
      else if (current) await store.update({ metadata: current.metadata, spec });
      else await store.create({ metadata: newMetadata(key), spec });
      await say(`${writer} ${step}`);
    }
  }),
);
