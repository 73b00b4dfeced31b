// Stock kubectl and talosctl through the plane's proxies, to an emulated cluster of three control planes and a worker.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createSecureServer, type Http2SecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { stringify } from "yaml";
import { createKubernetesProxy } from "#api/proxy/kubernetes-proxy.ts";
import { MachineIndex } from "#api/proxy/machine-index.ts";
import { createTalosProxy } from "#api/proxy/talos-proxy.ts";
import { type Emulator, startEmulator } from "#emulator/emulate.ts";
import { raise } from "#emulator/testing/cluster.ts";
import { TestPlane } from "#emulator/testing/plane.ts";
import { MachineStatusSpec_NetworkStatusSchema, MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { issue, makeCA } from "#talos/pki.ts";
import { base64, encodeSecrets } from "#talos/secrets.ts";
import { kubectl, talosctl } from "./clients.ts";

const kube = kubectl();
const talos = await talosctl();
const skipKube = "skip" in kube ? kube.skip : false;
const skipTalos = "skip" in talos ? talos.skip : false;
const folder = mkdtempSync(join(tmpdir(), "ichor-proxy-"));
const stop = new AbortController();
const ends: (() => unknown)[] = [() => stop.abort(), () => rmSync(folder, { recursive: true })];
let emulator: Emulator;
/** Host names in the order of the machines: three control planes and a worker. */
let names: string[] = [];

before(async () => {
  if (skipKube && skipTalos) return;
  const plane = await TestPlane.start();
  emulator = await startEmulator({ apiUrl: plane.url(), count: 4, delays: "none" });
  ends.push(
    () => emulator.stop(),
    () => plane.stop(),
  );
  await raise(plane, emulator.machines, { controlPlanes: 3, schedulable: true });

  // What the plane knows of them.
  const state = new State(new MemoryStore({ clock: systemClock }));
  await state.create(ClusterSecretsKind, "test", { data: encodeSecrets(plane.secrets) });
  names = emulator.machines.map(({ boot }) => boot?.hostname ?? "");
  for (const [at, { uuid }] of emulator.machines.entries()) {
    await state.create(MachineStatusKind, uuid, {
      managementAddress: plane.addressOf(uuid),
      cluster: "test",
      connected: true,
      talosVersion: "v1.13.9",
      role: at < 3 ? MachineStatusSpec_Role.CONTROL_PLANE : MachineStatusSpec_Role.WORKER,
      network: create(MachineStatusSpec_NetworkStatusSchema, { hostname: names[at] ?? "" }),
    });
  }
  const shared = { state, clock: systemClock, log: silent, signal: stop.signal, dial: plane.dial.bind(plane) };
  const machines = new MachineIndex(shared);
  const verify = async (token: string) => {
    if (token !== "secret") throw new IchorError("unauthenticated", "the token is not valid");
    return { identity: "ann@example.org", cluster: "test", groups: ["system:masters"] };
  };
  const kubernetesProxy = createKubernetesProxy({ ...shared, machines, verify });
  const talosProxy = createTalosProxy({ ...shared, machines });
  ends.push(
    () => kubernetesProxy.close(),
    () => talosProxy.close(),
  );

  // One TLS port for both, as the plane has it.
  const ca = await makeCA("p256", "ichor", systemClock);
  const own = await issue(ca, { usage: "server", ttl: 3_600_000, ips: ["127.0.0.1"] }, systemClock);
  const server: Http2SecureServer = createSecureServer(
    { allowHTTP1: true, cert: own.crt, key: own.key, ca: ca.crt, requestCert: true, rejectUnauthorized: false },
    (req, res) => {
      if (req.url.startsWith("/k8s/")) void kubernetesProxy.handle(req, res);
      else void talosProxy.handle(req, res, { identity: "ann", roles: ["Operator"] });
    },
  );
  server.on("upgrade", (req, socket, head) => void kubernetesProxy.upgrade(req, socket, head));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const client = await issue(ca, { usage: "client", ttl: 3_600_000, organizations: ["os:operator"] }, systemClock);
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "test",
        cluster: {
          server: `https://127.0.0.1:${port}/k8s/clusters/test`,
          "certificate-authority-data": base64(ca.crt),
        },
      },
    ],
    users: [{ name: "ann", user: { token: "secret" } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "ann" } }],
    "current-context": "test",
  };
  writeFileSync(join(folder, "kubeconfig"), stringify(kubeconfig));
  const context = {
    endpoints: [`127.0.0.1:${port}`],
    cluster: "test",
    ca: base64(ca.crt),
    crt: base64(client.crt),
    key: base64(client.key),
  };
  writeFileSync(join(folder, "talosconfig"), stringify({ context: "test", contexts: { test: context } }));
});
after(async () => {
  for (const end of ends.reverse()) await end();
});

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a client; `until` ends it as soon as its output matches. */
function run(
  program: typeof kube,
  args: readonly string[],
  { input = "", until }: { input?: string; until?: RegExp } = {},
) {
  return new Promise<Run>((resolve) => {
    const child = spawn("path" in program ? program.path : "", args, {
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        KUBECONFIG: join(folder, "kubeconfig"),
        TALOSCONFIG: join(folder, "talosconfig"),
      },
      timeout: 30_000,
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
async function ok(program: typeof kube, args: readonly string[], input = ""): Promise<string> {
  const { code, out, err } = await run(program, args, { input });
  assert.equal(code, 0, `${args.join(" ")}: ${err}${out}`);
  return out;
}

const pod = `
apiVersion: v1
kind: Pod
metadata: { name: web }
spec: { containers: [{ name: nginx, image: "nginx:1.29" }] }
`;

test("kubectl: nodes, apply, watch, logs, exec, delete", { skip: skipKube }, async () => {
  assert.equal((await ok(kube, ["get", "nodes"])).match(/\bReady\b/g)?.length, 4);
  const watching = run(kube, ["get", "pods", "-w"], { until: /Running/ });
  assert.match(await ok(kube, ["apply", "-f", "-"], pod), /created/);
  await ok(kube, ["wait", "--for=condition=Ready", "pod/web", "--timeout=20s"]);
  assert.match((await watching).out, /web.*Running/);
  assert.match(await ok(kube, ["logs", "web"]), /ready/);
  assert.match((await run(kube, ["logs", "-f", "web"], { until: /ready/ })).out, /ready/);
  assert.match(await ok(kube, ["exec", "web", "--", "echo", "hello"]), /hello/);
  assert.match(await ok(kube, ["exec", "-i", "web", "--", "cat"], "through stdin"), /through stdin/);
  assert.equal((await run(kube, ["exec", "web", "--", "sh", "-c", "exit 3"])).code, 3);
  assert.match(await ok(kube, ["delete", "pod", "web", "--timeout=20s"]), /deleted/);
});

test("kubectl: a token that is not ours", { skip: skipKube }, async () => {
  const { code, err } = await run(kube, ["--token=other", "get", "nodes"]);
  assert.notEqual(code, 0);
  assert.match(err, /token is not valid|must be logged in|Unauthorized/);
});

test("talosctl: one node, several, none", { skip: skipTalos }, async () => {
  const [first = "", second = "", , worker = ""] = names;
  assert.match(await ok(talos, ["-n", first, "version"]), new RegExp(`NODE:\\s+${first}[^]*Tag:\\s+v1\\.13`));
  const several = await ok(talos, ["-n", `${first},${second},${worker}`, "version"]);
  for (const name of [first, second, worker]) assert.match(several, new RegExp(`NODE:\\s+${name}`));
  assert.match(
    await ok(talos, ["-n", `${first},${worker}`, "services"]),
    new RegExp(`${worker}\\s+kubelet\\s+Running`),
  );
  assert.equal((await ok(talos, ["-n", first, "etcd", "members"])).trim().split("\n").length, 4);
  assert.match(await ok(talos, ["-n", first, "get", "members"]), /Member/);
  assert.match(await ok(talos, ["-n", `${first},${second}`, "get", "hostname"]), new RegExp(second));
  assert.match(await ok(talos, ["-n", first, "dmesg"]), /\S/);
  assert.match(await ok(talos, ["-n", `${first},${second}`, "logs", "kubelet"]), new RegExp(`${second}: `));
  assert.match(await ok(talos, ["-n", first, "read", "/etc/os-release"]), /Talos/);
  assert.match(await ok(talos, ["-n", first, "list", "/etc"]), /os-release/);
  assert.match(await ok(talos, ["-n", worker, "memory"]), /TOTAL/);
});

test("talosctl: machines by UUID, names that are unknown, what the plane owns", { skip: skipTalos }, async () => {
  const [machine] = emulator.machines;
  assert.match(await ok(talos, ["-n", machine!.uuid, "version"]), /v1\.13/);
  const unknown = await run(talos, ["-n", `${names[0]},nobody`, "version"]);
  assert.match(unknown.out + unknown.err, /no machine goes by "nobody"/);
  assert.match(unknown.out, new RegExp(`NODE:\\s+${names[0]}`));
  for (const args of [
    ["reset", "--graceful=false", "--wait=false"],
    ["kubeconfig", join(folder, "out")],
    ["etcd", "leave"],
  ]) {
    const { code, err } = await run(talos, ["-n", names[0]!, ...args]);
    assert.notEqual(code, 0);
    assert.match(err, /is not available through Ichor/);
  }
});
