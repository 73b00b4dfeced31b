import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { kubectl, talosctl } from "../interop/clients.ts";
import { said, TestPlane } from "./harness.ts";

// `./ichor up --demo`, and the lines that it ends with: a stranger copies them, so they must work as they stand.

const plane = new TestPlane("demo");
before(() => plane.start("--demo"), { timeout: 180_000 });
after(() => plane.stop());

const file = async (name: string, ...args: string[]) => {
  const { code, stdout, stderr } = await plane.cli(...args);
  assert.equal(code, 0, stderr);
  writeFileSync(join(plane.data, name), stdout);
  return join(plane.data, name);
};

test("the demo's kubeconfig reaches its five nodes", async (t) => {
  const client = kubectl();
  if ("skip" in client) return t.skip(client.skip);
  const config = await file("demo.kubeconfig", "kubeconfig", "--cluster", "demo", "--stdout");
  const nodes = await said(client.path, ["--kubeconfig", config, "get", "nodes", "-o", "name"]);
  assert.equal(nodes.stdout.trim().split("\n").length, 5, nodes.stderr);
});

test("the demo's talosconfig reaches the node that is named", async (t) => {
  const client = await talosctl();
  if ("skip" in client) return t.skip(client.skip);
  const node = plane.printed.find((line) => line.includes("talosctl --talosconfig"))?.match(/-n (\S+) version/)?.[1];
  assert.ok(node, plane.printed.join("\n"));
  const config = await file("demo.talosconfig", "talosconfig", "--cluster", "demo", "--stdout");
  const version = await said(client.path, ["--talosconfig", config, "-n", node, "version"]);
  assert.match(version.stdout, /NODE:\s+talos-/, version.stderr);
});

test("the demo goes on where it was when it is started again", { timeout: 120_000 }, async () => {
  await plane.kill();
  await plane.start("--demo");
  const status = await plane.json<{ phase: string; ready: boolean }>("cluster", "status", "demo");
  assert.deepEqual([status.phase, status.ready], ["RUNNING", true]);
});
