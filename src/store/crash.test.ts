import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { resultOf } from "./crash-step.ts";

const kills = 200;
const writers = 32;
/** Milliseconds until the kill at most: half of them count from the order to open, half from when it writes. */
const longest = 100;

const root = mkdtempSync(join(tmpdir(), "ichor-crash-"));
const living = new Set<ChildProcess>();
after(() => {
  for (const child of living) child.kill("SIGKILL");
  rmSync(root, { recursive: true });
});
const path = join(root, "store.db");
const script = fileURLToPath(new URL("./crash-writer.ts", import.meta.url));

interface Writer {
  readonly process: ChildProcess;
  readonly lines: AsyncIterator<string>;
  readonly errors: string[];
}

/** A process that has loaded its code, and waits to be told. */
async function start(): Promise<Writer> {
  const process_ = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "pipe"] });
  living.add(process_);
  process_.once("exit", () => living.delete(process_));
  const errors: string[] = [];
  process_.stderr.setEncoding("utf8").on("data", (text: string) => errors.push(text));
  // It is killed while it is written to.
  process_.stdin.on("error", () => {});
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, "waiting", errors.join(""));
  return { process: process_, lines, errors };
}

test(`nothing acknowledged is lost when the plane is killed, ${kills} times`, async () => {
  /** The last step of each writer that was acknowledged, or found done. */
  const done = new Array<number>(writers).fill(0);
  let acknowledged = 0;
  let recovered = 0;

  const check = (found: [string, string][]): void => {
    const kept = new Map(found);
    for (const [writer, step] of done.entries()) {
      const content = kept.get(String(writer));
      // One write more may have been on its way.
      if (content === resultOf(step + 1)) done[writer] = step + 1;
      else if (step === 0) assert.equal(content, undefined);
      else assert.equal(content, resultOf(step), `writer ${writer} after step ${step}`);
    }
    recovered++;
  };

  const run = async (
    { process: child, lines, errors }: Writer,
    delay: number,
    whileOpening: boolean,
  ): Promise<void> => {
    child.stdin?.write(`${path}\n`);
    let killed = false;
    let timer: NodeJS.Timeout | undefined;
    const kill = () => {
      timer ??= setTimeout(() => {
        killed = true;
        child.kill("SIGKILL");
      }, delay);
    };
    if (whileOpening) kill();
    for (let line = await lines.next(); !line.done; line = await lines.next()) {
      if (line.value.startsWith("found ")) {
        check(JSON.parse(line.value.slice(6)));
        child.stdin?.write(`${JSON.stringify(done.map((step) => step + 1))}\n`);
        kill();
        continue;
      }
      const [writer, step] = line.value.split(" ").map(Number);
      done[writer!] = step!;
      acknowledged++;
    }
    clearTimeout(timer);
    assert.ok(killed, `it ended by itself: ${errors.join("")}`);
  };

  let next = start();
  for (let kill = 0; kill < kills; kill++) {
    const current = await next;
    next = start();
    await run(current, Math.random() * longest, kill % 2 === 0);
  }
  // The last one lives long enough to be checked for certain.
  const before = recovered;
  await run(await next, 1000, false);
  assert.equal(recovered, before + 1);
  assert.ok(recovered > kills / 2, `only ${recovered} starts got as far as reading`);
  assert.ok(acknowledged > kills * writers, `only ${acknowledged} writes`);
});
