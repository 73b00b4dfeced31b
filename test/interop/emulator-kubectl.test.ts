// Stock kubectl against the built-in Kubernetes API of an emulated cluster of one control plane and one worker.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Emulator, startEmulator } from "#emulator/emulate.ts";
import { adminKubeconfig, forward, raise } from "#emulator/testing/cluster.ts";
import { TestPlane } from "#emulator/testing/plane.ts";
import { kubectl } from "./clients.ts";

const client = kubectl();
const skip = "skip" in client ? client.skip : false;
const folder = mkdtempSync(join(tmpdir(), "ichor-kubectl-"));
let plane: TestPlane;
let emulator: Emulator;
let close = () => {};

before(async () => {
  if (skip) return;
  plane = await TestPlane.start();
  emulator = await startEmulator({ apiUrl: plane.url(), count: 2, delays: "none" });
  await raise(plane, emulator.machines);
  const [control] = emulator.machines;
  assert.ok(control);
  const port = await forward(plane, control, 6443);
  close = () => port.close();
  writeFileSync(join(folder, "kubeconfig"), await adminKubeconfig(plane, port.port));
});
after(async () => {
  close();
  await emulator?.stop();
  plane?.stop();
  rmSync(folder, { recursive: true });
});

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs kubectl; `until` ends it as soon as its output matches. */
function run(args: readonly string[], { input = "", until }: { input?: string; until?: RegExp } = {}): Promise<Run> {
  return new Promise((resolve) => {
    const child = spawn("path" in client ? client.path : "", args, {
      env: { PATH: process.env.PATH, HOME: folder, KUBECONFIG: join(folder, "kubeconfig") },
      timeout: 20_000,
    });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
      if (until?.test(out)) child.kill();
    });
    child.stderr.on("data", (chunk) => (err += chunk));
    child.on("close", (code) => resolve({ code: code ?? -1, out, err }));
    child.stdin.end(input);
  });
}
async function ok(args: readonly string[], input = ""): Promise<string> {
  const { code, out, err } = await run(args, { input });
  assert.equal(code, 0, `kubectl ${args.join(" ")}: ${err}${out}`);
  return out;
}

const deployment = (replicas: number) => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, labels: { app: web } }
spec:
  replicas: ${replicas}
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: nginx, image: "nginx:1.29" }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
`;

test("get nodes", { skip }, async () => {
  const wide = await ok(["get", "nodes", "-o", "wide"]);
  assert.match(wide, /NAME\s+STATUS\s+ROLES\s+AGE\s+VERSION/);
  assert.equal(wide.match(/\bReady\b/g)?.length, 2, wide);
  assert.match(wide, /control-plane/);
  assert.match(wide, /v1\.36\.1/);
  const names = await ok(["get", "nodes", "-o", "name"]);
  assert.equal(names.trim().split("\n").length, 2);
  assert.match(await ok(["version"]), /Server Version: v1\.36/);
  assert.match(await ok(["api-resources"]), /deployments\s+deploy\s+apps\/v1\s+true\s+Deployment/);
});

test("apply, wait, scale, describe, logs, exec, delete", { skip }, async () => {
  const made = await ok(["apply", "-f", "-"], deployment(2));
  assert.match(made, /deployment\.apps\/web created/);
  await ok(["rollout", "status", "deployment/web", "--timeout=15s"]);
  await ok(["wait", "--for=condition=Available", "deployment/web", "--timeout=15s"]);
  assert.match(await ok(["get", "deployments"]), /web\s+2\/2/);
  const pods = (await ok(["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"])).split(" ");
  assert.equal(pods.length, 2);
  assert.match(await ok(["apply", "-f", "-"], deployment(2)), /deployment\.apps\/web unchanged|configured/);
  assert.match(
    await ok(["apply", "--server-side", "--force-conflicts", "-f", "-"], deployment(3)),
    /serverside-applied/,
  );
  await ok(["rollout", "status", "deployment/web", "--timeout=15s"]);
  assert.match(await ok(["get", "deployment", "web"]), /3\/3/);
  await ok(["scale", "deployment/web", "--replicas=1"]);
  await ok(["rollout", "status", "deployment/web", "--timeout=15s"]);
  assert.match(await ok(["describe", "deployment", "web"]), /Replicas:\s+1 desired/);
  const [pod = ""] = (await ok(["get", "pods", "-l", "app=web", "-o", "name"])).trim().split("\n");
  assert.match(await ok(["logs", pod]), /ready/);
  assert.match(await ok(["exec", pod, "--", "echo", "hello from", "the pod"]), /hello from the pod/);
  const failing = await run(["exec", pod, "--", "sh", "-c", "exit 3"]);
  assert.equal(failing.code, 3, failing.err);
  assert.match(await ok(["exec", "-i", pod, "--", "cat"], "through stdin"), /through stdin/);
  await ok(["delete", "-f", "-"], deployment(1));
  await ok(["wait", "--for=delete", pod, "--timeout=15s"]);
});

test("watch, label, annotate, patch, create, edit by replace", { skip }, async () => {
  await ok(["create", "configmap", "settings", "--from-literal=a=1"]);
  // As a list: of one object kubectl drops what happens between its look and its watch.
  const one = "--field-selector=metadata.name=settings";
  const watching = run(["get", "configmap", one, "-w", "-o", 'jsonpath={.data.a}{"\\n"}'], { until: /2/ });
  await ok(["patch", "configmap", "settings", "-p", '{"data":{"a":"2"}}']);
  assert.match((await watching).out, /2/);
  await ok(["patch", "configmap", "settings", "--type=json", "-p", '[{"op":"add","path":"/data/b","value":"3"}]']);
  await ok(["patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"a":null}}']);
  assert.equal(await ok(["get", "configmap", "settings", "-o", "jsonpath={.data}"]), '{"b":"3"}');
  await ok(["label", "configmap", "settings", "tier=front"]);
  await ok(["annotate", "configmap", "settings", "note=x"]);
  assert.match(await ok(["get", "configmap", "-l", "tier=front", "-o", "name"]), /configmap\/settings/);
  const text = await ok(["get", "configmap", "settings", "-o", "yaml"]);
  await ok(["replace", "-f", "-"], text.replace('b: "3"', 'b: "4"'));
  assert.equal(await ok(["get", "configmap", "settings", "-o", "jsonpath={.data.b}"]), "4");
  const missing = await run(["get", "configmap", "nowhere"]);
  assert.match(missing.err, /configmaps "nowhere" not found/);
  await ok(["create", "namespace", "team"]);
  await ok(["-n", "team", "run", "one", "--image=busybox", "--restart=Never"]);
  await ok(["delete", "namespace", "team", "--timeout=15s"]);
  assert.match((await run(["-n", "team", "get", "pod", "one"])).err, /not found/);
});

test("a custom resource definition is served, and its objects", { skip }, async () => {
  await ok(
    ["apply", "-f", "-"],
    `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.example.com }
spec:
  group: example.com
  scope: Namespaced
  names: { plural: widgets, singular: widget, kind: Widget, shortNames: [wd] }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
      additionalPrinterColumns: [{ name: Size, type: string, jsonPath: .spec.size }]
`,
  );
  await ok(["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"]);
  await ok(
    ["apply", "-f", "-"],
    "apiVersion: example.com/v1\nkind: Widget\nmetadata: { name: w }\nspec: { size: big }\n",
  );
  assert.match(await ok(["get", "wd"]), /SIZE[\s\S]*w\s+big/);
});

test("cordon and drain empty a node; who asks is told", { skip }, async () => {
  assert.match(await ok(["auth", "can-i", "delete", "nodes"]), /yes/);
  assert.match(await ok(["auth", "whoami"]), /omni:admin/);
  const denied = await run(["--as=somebody", "get", "secrets"]);
  assert.match(denied.err, /User "somebody" cannot list resource "secrets"/);
  await ok(["create", "deployment", "app", "--image=nginx", "--replicas=2"]);
  await ok(["rollout", "status", "deployment/app", "--timeout=15s"]);
  const worker = (await ok(["get", "nodes", "-l", "!node-role.kubernetes.io/control-plane", "-o", "name"])).trim();
  await ok(["drain", worker, "--ignore-daemonsets", "--timeout=15s"]);
  assert.match(await ok(["get", worker]), /SchedulingDisabled/);
  await ok(["uncordon", worker]);
  await ok(["rollout", "status", "deployment/app", "--timeout=15s"]);
});
