import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { systemClock } from "#lib/clock.ts";
import { type Code, codeOf, messageOf } from "#lib/errors.ts";
import { newMetadata } from "#resource/resource.ts";
import { storeConformance } from "./conformance.ts";
import { createSeal } from "./seal.ts";
import { openSqliteStore, type SqliteOptions } from "./sqlite.ts";
import type { Stored } from "./store.ts";

const root = mkdtempSync(join(tmpdir(), "ichor-store-"));
after(() => rmSync(root, { recursive: true }));
let files = 0;
const newPath = () => join(root, `data-${++files}`, "store.db");
const open = (path: string, options: Partial<SqliteOptions> = {}) =>
  openSqliteStore({ path, clock: systemClock, ...options });

const scope = { namespace: "test", type: "Things.test" };
const secrets = { namespace: "test", type: "Secrets.test" };
const thing = (id: string, text = "", at = scope): Stored => ({
  metadata: newMetadata({ ...at, id }, { labels: { some: "label" }, finalizers: ["x"] }),
  spec: new TextEncoder().encode(text),
});
const isSealed = (type: string) => type === secrets.type;
const seal = createSeal(new Uint8Array(32).fill(1));

async function refused(opening: Promise<unknown>, code: Code, ...words: string[]): Promise<void> {
  await assert.rejects(opening, (error) => {
    assert.equal(codeOf(error), code, String(error));
    for (const word of words) assert.ok(messageOf(error).includes(word), `${messageOf(error)}: ${word}`);
    return true;
  });
}

storeConformance("sqlite", () => open(newPath()), 30);
storeConformance("sqlite, sealed", () => open(newPath(), { seal, isSealed: () => true }), 10);
storeConformance(
  "sqlite, sealed with ids",
  () => open(newPath(), { seal, isSealed: () => true, hidesId: () => true }),
  10,
);

test("everything is there after a restart, and revisions go on", async () => {
  const path = newPath();
  const first = await open(path);
  const made = await first.create(thing("a", "1"), { owner: "me" });
  const changed = await first.update({ ...made, spec: new TextEncoder().encode("2") }, { owner: "me" });
  await first.create({ ...thing("gone"), metadata: newMetadata({ ...scope, id: "gone" }) });
  await first.destroy({ ...scope, id: "gone" });
  await first.close();
  await first.close();
  assert.equal(statSync(path).mode & 0o777, 0o600);

  const second = await open(path);
  const { resources } = await second.list(scope);
  assert.deepEqual(resources, [changed]);
  await assert.rejects(second.update(made, { owner: "me" }), (error) => codeOf(error) === "failed_precondition");
  assert.equal((await second.update(changed, { owner: "me" })).metadata.version, 3);
  await second.close();
});

test("after a restart a watch goes on from the last bookmark, and from no other", async () => {
  const path = newPath();
  const { signal } = new AbortController();
  const first = await open(path);
  await first.create(thing("a"));
  const older = (await first.list(scope)).bookmark;
  await first.create(thing("b"));
  const last = (await first.list(scope)).bookmark;
  await first.close();

  // A start without a write changes nothing about that.
  await (await open(path)).close();
  const second = await open(path);
  const events = second.watch(scope, { from: { bookmark: last }, signal })[Symbol.asyncIterator]();
  await second.create(thing("c"));
  const { value } = await events.next();
  assert.equal(value?.kind === "created" && value.resource.metadata.id, "c");
  assert.throws(
    () => second.watch(scope, { from: { bookmark: older }, signal }),
    (error) => codeOf(error) === "out_of_range",
  );
  await second.close();

  const third = await open(path);
  for (const bookmark of [older, last]) {
    assert.throws(
      () => third.watch(scope, { from: { bookmark }, signal }),
      (error) => codeOf(error) === "out_of_range",
    );
  }
  await third.close();
});

test("a bookmark of a time that a backup has undone is not taken for one of ours", async () => {
  const path = newPath();
  const { signal } = new AbortController();
  const first = await open(path);
  await first.create(thing("a"));
  await first.close();
  const backup = readFileSync(path);
  const second = await open(path);
  await second.create(thing("b"));
  const undone = (await second.list(scope)).bookmark;
  await second.close();
  writeFileSync(path, backup);
  const third = await open(path);
  await third.create(thing("other"));
  assert.equal((await third.list(scope)).bookmark.split(".")[1], undone.split(".")[1]);
  assert.throws(
    () => third.watch(scope, { from: { bookmark: undone }, signal }),
    (error) => codeOf(error) === "out_of_range",
  );
  await third.close();
});

test("sealed kinds are not readable on disk, and come back with the key", async () => {
  const path = newPath();
  const store = await open(path, { seal, isSealed });
  await store.create(thing("plain", "to be seen by all"));
  await store.create(thing("secret", "canary-7f3a", secrets));
  const onDisk = () =>
    readdirSync(join(path, ".."))
      .map((name) => readFileSync(join(path, "..", name)).toString("latin1"))
      .join("");
  for (const moment of ["in the log", "in the file"]) {
    assert.ok(onDisk().includes("to be seen by all"), moment);
    assert.ok(!onDisk().includes("canary"), moment);
    await store.close();
  }
  const again = await open(path, { seal, isSealed });
  assert.equal(Buffer.from((await again.get({ ...secrets, id: "secret" }))!.spec).toString(), "canary-7f3a");
  await again.close();

  const wrong = createSeal(new Uint8Array(32).fill(2));
  await refused(open(path, { seal: wrong, isSealed }), "failed_precondition", path, seal.keyId, wrong.keyId);
  await refused(open(path), "failed_precondition", path, "master key", "none is given");
  await refused(open(path, { isSealed }), "invalid_argument", "master key");
});

/** All that lies in the directory of a store. */
const onDisk = (path: string) =>
  readdirSync(join(path, ".."))
    .map((name) => readFileSync(join(path, "..", name)).toString("latin1"))
    .join("");

test("ids that are secrets are not readable on disk either, and come back with the key", async () => {
  const path = newPath();
  const options = { seal, isSealed, hidesId: isSealed };
  const store = await open(path, options);
  const kept = await store.create(thing("canary-é-1", "kept", secrets));
  await store.create({ ...thing("canary-2", "gone", secrets), metadata: newMetadata({ ...secrets, id: "canary-2" }) });
  await store.update({ ...kept, spec: new TextEncoder().encode("changed") });
  await store.destroy({ ...secrets, id: "canary-2" });
  await store.close();
  assert.ok(!onDisk(path).includes("canary"));
  const again = await open(path, options);
  const { resources } = await again.list(secrets);
  assert.deepEqual(
    resources.map(({ metadata, spec }) => [metadata.id, metadata.version, Buffer.from(spec).toString()]),
    [["canary-é-1", 2, "changed"]],
  );
  assert.deepEqual(Object.keys(resources[0]!.metadata).sort(), Object.keys(kept.metadata).sort());
  await again.close();
  const db = new DatabaseSync(path);
  db.exec("UPDATE resource SET id = 'another'");
  db.close();
  await refused(open(path, options), "data_loss", "Secrets.test/another");
});

test("ids that were stored before they became secrets are hidden at the next start", async () => {
  const path = newPath();
  const store = await open(path, { seal, isSealed });
  await store.create(thing("canary-7f3a", "x", secrets));
  await store.create(thing("plain"));
  await store.close();
  const options = { seal, isSealed, hidesId: isSealed };
  for (let start = 0; start < 2; start++) {
    const hiding = await open(path, options);
    assert.deepEqual(
      (await hiding.list(secrets)).resources.map(({ metadata }) => metadata.id),
      ["canary-7f3a"],
    );
    await hiding.close();
    const db = new DatabaseSync(path);
    const rows = db.prepare("SELECT id FROM resource ORDER BY id").all() as { id: string }[];
    db.close();
    assert.equal(rows.length, 2);
    assert.ok(!rows.some(({ id }) => id.includes("canary")));
  }
});

test("a sealed content that was moved to another resource is refused", async () => {
  const path = newPath();
  const store = await open(path, { seal, isSealed });
  await store.create(thing("a", "one", secrets));
  await store.create(thing("b", "two", secrets));
  await store.close();
  const db = new DatabaseSync(path);
  db.exec("UPDATE resource SET spec = (SELECT spec FROM resource WHERE id = 'a') WHERE id = 'b'");
  db.close();
  await refused(open(path, { seal, isSealed }), "data_loss", "Secrets.test/b");
});

test("what was stored before its kind became a secret is sealed at the next start", async () => {
  const path = newPath();
  const store = await open(path);
  await store.create(thing("a", "canary-7f3a", secrets));
  const { bookmark } = await store.list(secrets);
  await store.close();
  const sealing = await open(path, { seal, isSealed });
  assert.equal((await sealing.list(secrets)).bookmark, bookmark);
  await sealing.close();
  const db = new DatabaseSync(path);
  const { sealed, spec } = db.prepare("SELECT sealed, spec FROM resource").get() as {
    sealed: number;
    spec: Uint8Array;
  };
  db.close();
  assert.equal(sealed, 1);
  assert.ok(!Buffer.from(spec).includes("canary"));
});

test("a file that cannot be used says which, and what to do", async () => {
  const path = newPath();
  const store = await open(path);
  for (let index = 0; index < 200; index++) await store.create(thing(`${index}`, "x".repeat(300)));
  await refused(open(path), "failed_precondition", path, "in use");
  await store.close();
  const good = readFileSync(path);

  const edit = (sql: string) => {
    const db = new DatabaseSync(path);
    db.exec(sql);
    db.close();
  };
  edit("PRAGMA user_version = 99");
  await refused(open(path), "failed_precondition", path, "newer", "99");
  edit("PRAGMA application_id = 7");
  await refused(open(path), "failed_precondition", path, "another program");

  writeFileSync(path, "this is no database, just some text that is longer than the header of one".repeat(10));
  await refused(open(path), "data_loss", path, "backup");
  const torn = Buffer.from(good);
  torn.fill(0x5a, 8192, 16_384);
  writeFileSync(path, torn);
  await refused(open(path), "data_loss", path, "backup");
  writeFileSync(path, good);
  truncateSync(path, good.length - 8192);
  await refused(open(path), "data_loss", path, "backup");
  writeFileSync(path, good);
  edit("UPDATE resource SET metadata = 'x' WHERE id = '17'");
  await refused(open(path), "data_loss", path, "Things.test/17");
  writeFileSync(path, good);
  await (await open(path)).close();

  await refused(open(root), "unavailable", root);
});

test("on a full disk writes fail and change nothing; with space they go on", (context) => {
  const directory = mkdtempSync(join(root, "full-"));
  const child = fileURLToPath(new URL("./full-disk.ts", import.meta.url));
  const mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"';
  const ran = spawnSync("unshare", ["-rm", "sh", "-c", mount, directory, process.execPath, child], {
    input: directory,
    encoding: "utf8",
    timeout: 30_000,
  });
  if (ran.error || /unshare|mount:|permission/i.test(ran.stderr))
    return context.skip(`no file system of its own: ${ran.error?.message ?? ran.stderr.trim()}`);
  const report = JSON.parse(ran.stdout || "{}");
  assert.equal(report.code, "resource_exhausted", ran.stderr);
  assert.match(report.message, /store\.db" is full.*free some space/);
  assert.ok(report.acknowledged > 10);
  assert.equal(report.inMemory, report.acknowledged);
  assert.deepEqual(report.missing, []);
  assert.equal(report.extra, 0);
});
