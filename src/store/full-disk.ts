// Run by sqlite.test.ts on a file system of one megabyte: fills it, and prints what the store says and keeps.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { systemClock } from "#lib/clock.ts";
import { codeOf, messageOf } from "#lib/errors.ts";
import { newMetadata } from "#resource/resource.ts";
import { openSqliteStore } from "./sqlite.ts";

const directory = (await text(process.stdin)).trim();
const options = { path: join(directory, "store.db"), clock: systemClock };
const scope = { namespace: "test", type: "Things.test" };
const filler = join(directory, "filler");
const report: Record<string, unknown> = {};

writeFileSync(filler, new Uint8Array(400_000));
let store = await openSqliteStore(options);
const acknowledged: string[] = [];
let refused = 0;
// Groups of several, so that one that fails takes others with it.
for (let round = 0; refused === 0; round++) {
  const ids = Array.from({ length: 4 }, (_, index) => `${round}-${index}`);
  const outcomes = await Promise.allSettled(
    ids.map((id) => store.create({ metadata: newMetadata({ ...scope, id }), spec: new Uint8Array(5000) })),
  );
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === "fulfilled") acknowledged.push(ids[index]!);
    else {
      refused++;
      report.code = codeOf(outcome.reason);
      report.message = messageOf(outcome.reason);
    }
  }
}
const inMemory = await store.list(scope);
report.acknowledged = acknowledged.length;
report.inMemory = inMemory.resources.length;

rmSync(filler);
await store.create({ metadata: newMetadata({ ...scope, id: "later" }), spec: new Uint8Array(5000) });
acknowledged.push("later");
await store.close();

store = await openSqliteStore(options);
const kept = new Set((await store.list(scope)).resources.map(({ metadata }) => metadata.id));
report.missing = acknowledged.filter((id) => !kept.has(id));
report.extra = kept.size - acknowledged.length;
await store.close();
console.log(JSON.stringify(report));
