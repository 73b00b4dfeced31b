// Emulated machines with the real kube-apiserver and etcd: stock kubectl through a plane in a process of its own, and the programs' ends.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { said, TestPlane, template } from "../e2e/harness.ts";
import { goTool } from "./build.ts";
import { kubectl, talosctl } from "./clients.ts";
import { eventually } from "./until.ts";

const kube = kubectl();
const [apiServer, etcd] = [await goTool("kube-apiserver"), await goTool("etcd")];
const missing = [kube, apiServer, etcd].find((tool) => "skip" in tool);
const skip = missing && "skip" in missing ? missing.skip : false;
const pathOf = (tool: { path: string } | { skip: string }) => ("path" in tool ? tool.path : "");
const plane = new TestPlane("real-kubernetes");
const state = join(plane.data, "machines");
const flags = ["--kube-apiserver", pathOf(apiServer), "--etcd", pathOf(etcd)];

before(async () => {
  if (!skip) await plane.start();
});
after(() => plane.stop());

const file = (name: string, text: string) => {
  writeFileSync(join(plane.data, name), text);
  return join(plane.data, name);
};
const run = (...args: string[]) => said(pathOf(kube), ["--kubeconfig", join(plane.data, "kubeconfig"), ...args]);
async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  assert.equal(code, 0, `kubectl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** Process ids whose command line holds a text. */
function processes(text: string): number[] {
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(text) ? [Number(pid)] : [];
    } catch {
      return [];
    }
  });
}

/** Whether a process is that program itself, not the shell that guards it. */
function runs(pid: number, tool: { path: string } | { skip: string }): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) === realpathSync(pathOf(tool));
  } catch {
    return false;
  }
}

test("a path without the other, and a path to nothing, are refused", async () => {
  const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  const emulate = (...more: string[]) =>
    said(process.execPath, [main, "emulate", "--api", "grpc://127.0.0.1:1", ...more]);
  const half = await emulate("--etcd", "/bin/sh");
  assert.equal(half.code, 2, half.stderr);
  assert.match(half.stderr, /--kube-apiserver and --etcd go together/);
  const nothing = await emulate("--etcd", "/bin/sh", "--kube-apiserver", join(plane.data, "none"));
  assert.equal(nothing.code, 2, nothing.stderr);
  assert.match(nothing.stderr, /kube-apiserver: ".*none" is not a program/);
});

test("one machine becomes a running cluster", { skip, timeout: 240_000 }, async () => {
  const machines = await plane.emulate(1, "--state", state, ...flags);
  const joined = await plane.cli("machine", "wait", "--count", "1", "--timeout", "60s");
  assert.equal(joined.code, 0, joined.stderr);
  const synced = await plane.cli(
    "template",
    "sync",
    file("kiosk.yaml", template("kiosk", machines, [])),
    "--wait",
    "--timeout",
    "180s",
  );
  assert.equal(synced.code, 0, synced.stderr);
  const config = await plane.cli("kubeconfig", "--cluster", "kiosk", "--stdout");
  assert.equal(config.code, 0, config.stderr);
  file("kubeconfig", config.stdout);
});

test("kubectl: nodes, apply, watch, delete", { skip, timeout: 120_000 }, async (t) => {
  assert.match(await ok("version"), /Server Version: v1\.36\.1/);
  assert.match(await ok("get", "nodes"), /\bReady\s+control-plane\s+\S+\s+v1\.36\.3/);
  const [node] = (
    JSON.parse(await ok("get", "nodes", "-o", "json")) as {
      items: { metadata: { name: string }; spec: { taints?: object[] } }[];
    }
  ).items;
  assert.deepEqual(node?.spec.taints ?? [], [], "nothing keeps pods away");
  assert.match(await ok("-n", "kube-node-lease", "get", "leases"), new RegExp(node?.metadata.name ?? "-"));
  assert.match(
    await ok("explain", "deployment.spec.replicas"),
    /Number of desired pods/,
    "only the real one knows fields",
  );
  const price = (milk: string) =>
    file("prices.yaml", `apiVersion: v1\nkind: ConfigMap\nmetadata: { name: prices }\ndata: { milk: "${milk}" }\n`);
  assert.match(await ok("apply", "-f", price("1")), /created/);
  // As a list: of one object kubectl drops what happens between its look and its watch.
  const watching = spawn(pathOf(kube), [
    "--kubeconfig",
    join(plane.data, "kubeconfig"),
    "get",
    "configmap",
    "--field-selector=metadata.name=prices",
    "-w",
    "-o",
    'jsonpath={.data.milk}{"\\n"}',
  ]);
  t.after(() => watching.kill("SIGKILL"));
  let seen = "";
  const told = new Promise<void>((resolve) =>
    watching.stdout.on("data", (chunk) => {
      seen += chunk;
      if (/1\n2\n/.test(seen)) resolve();
    }),
  );
  await eventually(async () => seen.includes("1\n"), t.signal);
  assert.match(await ok("apply", "--server-side", "--force-conflicts", "-f", price("2")), /serverside-applied/);
  await told;
  const conflict = await run("apply", "--server-side", "--field-manager=other", "-f", price("3"));
  assert.match(conflict.stderr, /conflict/, "only the real one tells of conflicts");
  await ok("delete", "configmap", "prices");
  assert.match((await run("get", "configmap", "prices")).stderr, /not found/);
});

test("a snapshot is etcd's own", { skip, timeout: 120_000 }, async (t) => {
  const binary = await talosctl();
  if ("skip" in binary) return t.skip(binary.skip);
  const { stdout } = await plane.cli("talosconfig", "--stdout");
  const [machine] = await plane.json<{ id: string }[]>("machine", "list");
  const target = join(plane.data, "etcd.snapshot");
  const taken = await said(binary.path, [
    "--talosconfig",
    file("talosconfig", stdout),
    "-n",
    machine?.id ?? "",
    "etcd",
    "snapshot",
    target,
  ]);
  assert.equal(taken.code, 0, taken.stderr);
  const bytes = readFileSync(target);
  assert.equal(bytes.readUInt32LE(16), 0xed0cdaed, "the magic number of the database");
  assert.equal(bytes.length % 512, 32, "pages, then a SHA-256");
});

test("an API server that dies is started again", { skip, timeout: 120_000 }, async (t) => {
  const servers = () => processes(`${join(state, "kubernetes")}`).filter((pid) => runs(pid, apiServer));
  const [first] = servers();
  assert.ok(first);
  process.kill(first, "SIGKILL");
  await eventually(async () => servers().some((pid) => pid !== first), t.signal);
  await eventually(async () => (await run("get", "nodes")).code === 0, t.signal);
});

test("killed, it leaves no program behind; started again, it goes on", { skip, timeout: 240_000 }, async (t) => {
  await ok("create", "configmap", "kept", "--from-literal=a=1");
  assert.ok(processes(`--data-dir=${state}`).length >= 1, "etcd runs");
  const emulators = processes(`emulate\0`).filter((pid) => processes(state).includes(pid));
  assert.equal(emulators.length, 1);
  process.kill(emulators[0]!, "SIGKILL");
  await eventually(async () => processes(state).length === 0, t.signal);
  await plane.emulate(1, "--state", state, ...flags);
  await eventually(async () => (await run("get", "configmap", "kept")).code === 0, t.signal);
  await eventually(async () => /\bReady\b/.test((await run("get", "nodes")).stdout), t.signal);
});

test("three control planes share one API server, which goes with its cluster", {
  skip,
  timeout: 240_000,
}, async (t) => {
  // Found by its seed, which nobody else has: others may run this test too.
  const seed = join(plane.data, "shop");
  const machines = await plane.emulate(4, "--seed", seed, ...flags);
  const path = file("shop.yaml", template("shop", machines.slice(0, 3), machines.slice(3)));
  const joined = await plane.cli("machine", "wait", "--count", "5", "--timeout", "60s");
  assert.equal(joined.code, 0, joined.stderr);
  const synced = await plane.cli("template", "sync", path, "--wait", "--timeout", "180s");
  assert.equal(synced.code, 0, synced.stderr);
  file("kubeconfig", (await plane.cli("kubeconfig", "--cluster", "shop", "--stdout")).stdout);
  const nodes = await ok("get", "nodes");
  assert.equal(nodes.match(/\bReady\s/g)?.length, 4, nodes);
  assert.equal(nodes.match(/control-plane/g)?.length, 3, nodes);
  const [emulator] = processes(`--seed\0${seed}`);
  const own = () => processes(`/ichor-emulated-kubernetes-${emulator}-`).filter((pid) => runs(pid, apiServer));
  assert.equal(own().length, 1);
  const deleted = await plane.cli("cluster", "delete", "shop", "--yes");
  assert.equal(deleted.code, 0, deleted.stderr);
  await eventually(async () => own().length === 0, t.signal);
});
