import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { kubectl, talosctl } from "../interop/clients.ts";
import { type Said, said, TestPlane, template } from "./harness.ts";

// The main job: machines boot, join, become a cluster that stock kubectl and talosctl reach, change, survive a killed plane, and go.

const plane = new TestPlane("chain");
let machines: string[] = [];
let kube: (...args: string[]) => Promise<Said>;

interface Listed {
  id: string;
  connected: boolean;
  cluster: string;
}
const file = (name: string, text: string) => {
  writeFileSync(join(plane.data, name), text);
  return join(plane.data, name);
};
const nodeNames = async () => {
  const { stdout } = await kube("get", "nodes", "-o", "name");
  return stdout.trim().split("\n").filter(Boolean).sort();
};

before(async () => {
  await plane.start();
});
after(() => plane.stop());

test("machines join and are inventoried", { timeout: 120_000 }, async () => {
  machines = await plane.emulate(6);
  assert.equal(machines.length, 6);
  const wait = await plane.cli("machine", "wait", "--count", "6", "--timeout", "90s");
  assert.equal(wait.code, 0, wait.stderr);
  const listed = await plane.json<Listed[]>("machine", "list");
  assert.deepEqual(listed.map(({ id }) => id).sort(), [...machines].sort());
  assert.ok(listed.every(({ connected }) => connected));
});

test("a template becomes a running cluster of three control planes and two workers", { timeout: 180_000 }, async () => {
  const path = file("shop.yaml", template("shop", machines.slice(0, 3), machines.slice(3, 5)));
  const synced = await plane.cli("template", "sync", path, "--wait", "--timeout", "150s");
  assert.equal(synced.code, 0, synced.stderr);
  const again = await plane.cli("template", "sync", path);
  assert.match(again.stderr, /as the template says/);
});

test("stock kubectl works through the plane, with a kubeconfig that holds no cluster secret", {
  timeout: 120_000,
}, async (t) => {
  const config = await plane.cli("kubeconfig", "--cluster", "shop", "--stdout");
  assert.equal(config.code, 0, config.stderr);
  assert.doesNotMatch(config.stdout, /client-key-data|PRIVATE KEY/);
  const path = file("kubeconfig", config.stdout);
  const client = kubectl();
  if ("skip" in client) return t.skip(client.skip);
  const binary = client.path;
  kube = (...args) => said(binary, ["--kubeconfig", path, ...args]);
  const nodes = await kube("get", "nodes", "-o", "json");
  assert.equal(nodes.code, 0, nodes.stderr);
  const { items } = JSON.parse(nodes.stdout) as {
    items: { status: { conditions: { type: string; status: string }[] } }[];
  };
  assert.equal(items.length, 5);
  for (const { status } of items) assert.equal(status.conditions.find(({ type }) => type === "Ready")?.status, "True");
  await t.test("apply, get, delete", async () => {
    const manifest = file(
      "map.yaml",
      "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: price-list\n  namespace: default\ndata:\n  milk: '1'\n",
    );
    const applied = await kube("apply", "-f", manifest);
    assert.equal(applied.code, 0, applied.stderr);
    const got = await kube("get", "configmap", "price-list", "-o", "jsonpath={.data.milk}");
    assert.equal(got.stdout, "1");
    const gone = await kube("delete", "-f", manifest);
    assert.equal(gone.code, 0, gone.stderr);
  });
  await t.test("a caller without token gets nothing", async () => {
    const { code, stderr } = await said(binary, ["--kubeconfig", path, "--token", "nonsense", "get", "nodes"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /logged in|Unauthorized|provide credentials/i);
  });
});

test("stock talosctl works through the plane", { timeout: 120_000 }, async (t) => {
  const binary = await talosctl();
  if ("skip" in binary) return t.skip(binary.skip);
  const config = await plane.cli("talosconfig", "--stdout");
  assert.equal(config.code, 0, config.stderr);
  const path = file("talosconfig", config.stdout);
  const talos = (...args: string[]) => said(binary.path, ["--talosconfig", path, ...args]);
  const [first = "", second = ""] = machines;
  const version = await talos("-n", `${first},${second}`, "version");
  assert.equal(version.code, 0, version.stderr);
  assert.equal(version.stdout.match(/Tag:\s+v1\.13\.9/g)?.length, 2, version.stdout);
  const members = await talos("-n", first, "etcd", "members");
  assert.equal(members.code, 0, members.stderr);
  assert.equal(members.stdout.trim().split("\n").length, 4, members.stdout);
  const disks = await talos("-n", first, "get", "disks");
  assert.equal(disks.code, 0, disks.stderr);
  const services = await talos("-n", second, "services");
  assert.equal(services.code, 0, services.stderr);
  assert.match(services.stdout, /etcd\s+Running/);
  const dmesg = await talos("-n", first, "dmesg");
  assert.equal(dmesg.code, 0, dmesg.stderr);
  const unknown = await talos("-n", "no-such-machine", "version");
  assert.notEqual(unknown.code, 0);
  assert.match(unknown.stderr, /no-such-machine/);
});

test("a plane that is killed goes on, and its kubeconfig stays good", { timeout: 180_000 }, async () => {
  await plane.kill();
  await plane.start();
  const status = await plane.cli("cluster", "status", "shop", "--wait", "--timeout", "120s");
  assert.equal(status.code, 0, status.stderr);
  const nodes = await kube("get", "nodes", "-o", "name");
  assert.equal(nodes.code, 0, nodes.stderr);
});

test("a worker is added and another is taken out and reset", { timeout: 180_000 }, async () => {
  const [a, b, c, d, e, f] = machines as [string, string, string, string, string, string];
  const path = file("shop.yaml", template("shop", [a, b, c], [e, f]));
  const synced = await plane.cli("template", "sync", path, "--wait", "--timeout", "150s");
  assert.equal(synced.code, 0, synced.stderr);
  const listed = await plane.json<Listed[]>("machine", "list");
  const clusterOf = new Map(listed.map(({ id, cluster }) => [id, cluster]));
  assert.equal(clusterOf.get(f), "shop");
  assert.equal(clusterOf.get(d) || "", "");
  assert.equal((await nodeNames()).length >= 5, true);
});

test("an even number of control planes is refused with the reason", async () => {
  const path = file("even.yaml", template("even", machines.slice(0, 2), []));
  const { code, stderr } = await plane.cli("template", "validate", path);
  assert.equal(code, 2);
  assert.match(stderr + (await plane.cli("template", "validate", path)).stdout, /even/);
});

test("a cluster is destroyed and its machines are free again", { timeout: 180_000 }, async () => {
  const deleted = await plane.cli("cluster", "delete", "shop", "--yes");
  assert.equal(deleted.code, 0, deleted.stderr);
  const listed = await plane.json<Listed[]>("machine", "list");
  assert.ok(listed.every(({ cluster }) => !cluster));
  assert.deepEqual(await plane.json("cluster", "list"), []);
});

test("a single machine becomes a cluster that schedules on its control plane", { timeout: 180_000 }, async () => {
  const path = file("kiosk.yaml", template("kiosk", machines.slice(0, 1), []));
  const synced = await plane.cli("template", "sync", path, "--wait", "--timeout", "150s");
  assert.equal(synced.code, 0, synced.stderr);
  const config = await plane.cli("get", "RedactedClusterMachineConfigs", machines[0]!, "-o", "yaml");
  assert.equal(config.code, 0, config.stderr);
  assert.match(config.stdout, /allowSchedulingOnControlPlanes: true/);
  assert.doesNotMatch(config.stdout, /PRIVATE KEY/);
});
