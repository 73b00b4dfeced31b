import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { systemClock } from "#lib/clock.ts";
import { newMetadata } from "#resource/resource.ts";
import { openSqliteStore } from "#store/sqlite.ts";
import type { Store, Stored } from "#store/store.ts";

const writers = 32;
const measured = 5_000;
const scope = { namespace: "bench", type: "Things.bench" };
/** About what a machine's status takes. */
const spec = new Uint8Array(1024).fill(7);

/** Writes that are on the disk before they are answered, and what the disk can do one at a time. */
export async function run(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "ichor-bench-"));
  try {
    const alone = plainSqlite(join(directory, "plain.db"));
    const store = await openSqliteStore({ path: join(directory, "store.db"), clock: systemClock });
    const one = await updatesPerSecond(store, 1, "one");
    const many = await updatesPerSecond(store, writers, "many");
    await store.close();
    const row = (rate: number, wanted = "") => ({
      measured: Math.round(rate).toLocaleString("en"),
      "ratio to plain SQLite": (rate / alone).toFixed(1),
      wanted,
    });
    console.table({
      "plain SQLite, one commit after the other, writes a second": row(alone),
      "one writer, durable writes a second": row(one),
      [`${writers} writers, durable writes a second`]: row(many, "3,000"),
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function updatesPerSecond(store: Store, count: number, name: string): Promise<number> {
  let written = 0;
  const started = performance.now();
  const end = started + measured;
  const write = async (id: string) => {
    let current: Stored = await store.create({ metadata: newMetadata({ ...scope, id }), spec });
    while (performance.now() < end) {
      current = await store.update({ metadata: current.metadata, spec });
      written++;
    }
  };
  await Promise.all(Array.from({ length: count }, (_, index) => write(`${name}-${index}`)));
  return (written * 1000) / (performance.now() - started);
}

/** The peer: SQLite with the same durability, one transaction for each write. */
function plainSqlite(path: string): number {
  const database = new DatabaseSync(path);
  database.exec(
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (id TEXT PRIMARY KEY, spec BLOB)",
  );
  const put = database.prepare("INSERT INTO t VALUES (?, ?) ON CONFLICT DO UPDATE SET spec = excluded.spec");
  let written = 0;
  const started = performance.now();
  while (performance.now() < started + measured) put.run(`id-${written++ % writers}`, spec);
  const rate = (written * 1000) / (performance.now() - started);
  database.close();
  return rate;
}
