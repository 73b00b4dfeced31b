// The Kubernetes proxy in front of the real kube-apiserver: certificates, impersonation, watch and HTTP/2 as it judges them.
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { stringify } from "yaml";
import { createKubernetesProxy } from "#api/proxy/kubernetes-proxy.ts";
import { MachineIndex } from "#api/proxy/machine-index.ts";
import { MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { issue, makeCA } from "#talos/pki.ts";
import { base64, encodeSecrets, makeSecrets } from "#talos/secrets.ts";
import { goTool } from "./build.ts";
import { kubectl } from "./clients.ts";

const kube = kubectl();
const [apiserver, etcd] = [await goTool("kube-apiserver"), await goTool("etcd")];
const missing = [kube, apiserver, etcd].find((tool) => "skip" in tool);
const skip = missing && "skip" in missing ? missing.skip : false;
const folder = mkdtempSync(join(tmpdir(), "ichor-apiserver-"));
const stop = new AbortController();
const ends: (() => unknown)[] = [() => stop.abort(), () => rmSync(folder, { recursive: true })];
const address = "fdae:41e4:649b:9303::a";
const users: Record<string, { identity: string; groups: string[] }> = {
  admin: { identity: "ann@example.org", groups: ["system:masters", "ünits"] },
  guest: { identity: "bob@example.org", groups: ["guests"] },
};

const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

function daemon(tool: { path: string } | { skip: string }, args: readonly string[]): ChildProcess {
  const child = spawn("path" in tool ? tool.path : "", args, { stdio: "ignore" });
  ends.push(async () => {
    if (child.exitCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
  return child;
}

before(async () => {
  if (skip) return;
  const secrets = await makeSecrets(systemClock);
  const [clientPort, peerPort, securePort] = [await freePort(), await freePort(), await freePort()];
  const at = (port: number) => `http://127.0.0.1:${port}`;
  daemon(etcd, [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${at(clientPort)}`,
    `--advertise-client-urls=${at(clientPort)}`,
    `--listen-peer-urls=${at(peerPort)}`,
    `--initial-advertise-peer-urls=${at(peerPort)}`,
    `--initial-cluster=default=${at(peerPort)}`,
    "--unsafe-no-fsync",
  ]);
  const names = { dnsNames: ["localhost", "kubernetes"], ips: ["127.0.0.1"] };
  const serving = await issue(secrets.kubernetes, { usage: "server", ttl: 3_600_000, ...names }, systemClock);
  const account = file("account.key", secrets.serviceAccountKey);
  daemon(apiserver, [
    `--etcd-servers=${at(clientPort)}`,
    `--secure-port=${securePort}`,
    "--bind-address=127.0.0.1",
    "--endpoint-reconciler-type=none",
    `--client-ca-file=${file("ca.crt", secrets.kubernetes.crt)}`,
    `--tls-cert-file=${file("tls.crt", serving.crt)}`,
    `--tls-private-key-file=${file("tls.key", serving.key)}`,
    `--service-account-key-file=${account}`,
    `--service-account-signing-key-file=${account}`,
    "--service-account-issuer=https://localhost",
    "--service-cluster-ip-range=10.96.0.0/12",
    "--authorization-mode=RBAC",
  ]);

  const state = new State(new MemoryStore({ clock: systemClock }));
  await state.create(ClusterSecretsKind, "real", { data: encodeSecrets(secrets) });
  const role = MachineStatusSpec_Role.CONTROL_PLANE;
  await state.create(MachineStatusKind, "m", { managementAddress: address, cluster: "real", connected: true, role });
  const shared = { state, clock: systemClock, log: silent, signal: stop.signal };
  const proxy = createKubernetesProxy({
    ...shared,
    machines: new MachineIndex(shared),
    dial: async () => {
      const socket = connect({ port: securePort, host: "127.0.0.1" });
      await once(socket, "connect");
      return socket;
    },
    verify: async (token) => {
      const user = users[token];
      if (!user) throw new IchorError("unauthenticated", "the token is not valid");
      return { ...user, cluster: "real" };
    },
  });
  ends.push(() => proxy.close());
  const ca = await makeCA("p256", "ichor", systemClock);
  const own = await issue(ca, { usage: "server", ttl: 3_600_000, ips: ["127.0.0.1"] }, systemClock);
  const server = createSecureServer({ allowHTTP1: true, cert: own.crt, key: own.key }, (req, res) => {
    void proxy.handle(req, res);
  });
  server.on("upgrade", (req, socket, head) => void proxy.upgrade(req, socket, head));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/k8s/clusters/real`;
  for (const token of Object.keys(users)) {
    const kubeconfig = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server: url, "certificate-authority-data": base64(ca.crt) } }],
      users: [{ name: "u", user: { token } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      "current-context": "c",
    };
    file(token, stringify(kubeconfig));
  }
  const end = performance.now() + 60_000;
  while ((await run("admin", ["get", "--raw", "/readyz"])).out !== "ok") {
    assert.ok(performance.now() < end, "kube-apiserver never became ready");
  }
});
after(async () => {
  for (const end of ends.reverse()) await end();
});

function run(user: string, args: readonly string[], input = "") {
  return new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const env = { PATH: process.env.PATH, HOME: folder, KUBECONFIG: join(folder, user) };
    const child = execFile("path" in kube ? kube.path : "", args, { env, timeout: 30_000 }, (error, out, err) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err }),
    );
    child.stdin?.end(input);
  });
}
async function ok(user: string, args: readonly string[], input = ""): Promise<string> {
  const { code, out, err } = await run(user, args, input);
  assert.equal(code, 0, `${args.join(" ")}: ${err}${out}`);
  return out;
}

test("the API server sees the caller, not the plane", { skip }, async () => {
  const admin = await ok("admin", ["auth", "whoami"]);
  assert.match(admin, /Username\s+ann@example\.org/);
  assert.match(admin, /ünits/);
  assert.doesNotMatch(admin, /omni:admin/);
  assert.match(await ok("guest", ["auth", "whoami"]), /Groups\s+\[guests system:authenticated\]/);
});

test("a caller has the rights of its own groups, and cannot claim those of others", { skip }, async () => {
  const { err } = await run("guest", ["get", "secrets"]);
  assert.match(err, /User "bob@example\.org" cannot list resource "secrets"/);
  const claimed = await run("guest", ["--as=root", "--as-group=system:masters", "get", "secrets"]);
  assert.match(claimed.err, /User "bob@example\.org" cannot list/);
});

test("objects are applied, watched and deleted", { skip }, async () => {
  const map = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: one }\ndata: { a: b }\n";
  await ok("admin", ["apply", "--server-side", "-f", "-"], map);
  const waiting = ok("admin", ["wait", "--for=jsonpath={.data.a}=c", "configmap/one", "--timeout=20s"]);
  await ok("admin", ["patch", "configmap", "one", "-p", '{"data":{"a":"c"}}']);
  await waiting;
  assert.match(await ok("admin", ["get", "configmaps", "-A", "-o", "wide"]), /one/);
  assert.match(await ok("admin", ["delete", "configmap", "one", "--timeout=20s"]), /deleted/);
  assert.match((await run("admin", ["get", "configmap", "one"])).err, /NotFound/);
  assert.match(await ok("admin", ["api-resources"]), /deployments/);
});
