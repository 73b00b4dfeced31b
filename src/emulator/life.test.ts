import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { connect as tlsConnect } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { parseDocument } from "yaml";
import { type Emulator, startEmulator } from "./emulate.ts";
import type { Machine } from "./machine.ts";
import { configOf, isReady, raise, standing } from "./testing/cluster.ts";
import { TestPlane } from "./testing/plane.ts";

let plane: TestPlane;
let emulator: Emulator;
let machine: Machine;
before(async () => {
  plane = await TestPlane.start();
  emulator = await startEmulator({ apiUrl: plane.url(), delays: "none" });
  [machine] = emulator.machines as [Machine];
  await raise(plane, [machine], { schedulable: true });
});
after(async () => {
  await emulator?.stop();
  plane?.stop();
});

const admin = async () => plane.client(machine.uuid, await plane.credentials("os:admin")).machine;
const objects = () => {
  const { cluster } = machine.boot ?? {};
  assert.ok(cluster);
  return cluster.objects;
};
const node = () => objects().get("/nodes", "", machine.boot?.hostname ?? "");

test("services of Talos take no orders, but for the kubelet's start and restart", async () => {
  const client = await admin();
  const refusal = (error: unknown) => {
    const { code, rawMessage } = ConnectError.from(error);
    return code === Code.Unknown && /doesn't support (stop|restart) operation via API/.test(rawMessage);
  };
  await assert.rejects(client.serviceStop({ id: "etcd" }), refusal);
  await assert.rejects(client.serviceRestart({ id: "etcd" }), refusal);
  await assert.rejects(client.serviceStop({ id: "kubelet" }), refusal);
  await assert.rejects(
    client.serviceRestart({ id: "none" }),
    (error) => ConnectError.from(error).code === Code.NotFound,
  );
  await client.serviceRestart({ id: "kubelet" });
  await client.serviceStart({ id: "etcd" });
  const { messages } = await client.serviceList({});
  const states = new Map(messages[0]?.services.map(({ id, state }) => [id, state]));
  assert.deepEqual([states.get("etcd"), states.get("kubelet")], ["Running", "Running"]);
});

test("another name of the configuration is in the certificates at once", async () => {
  const [main, ...more] = configOf(plane, "controlplane", {
    disk: machine.chassis.disk.installed?.disk ?? "",
    schedulable: true,
  })
    .toString()
    .split(/^---$/m);
  const document = parseDocument(main ?? "");
  document.setIn(["machine", "certSANs"], ["extra.example"]);
  const data = Buffer.from([document.toString(), ...more].join("---"));
  await (await admin()).applyConfiguration({ data, mode: 1 });
  for (const [port, authority] of [
    [50_000, plane.secrets.os],
    [6443, plane.secrets.kubernetes],
  ] as const) {
    for (;;) {
      const socket = tlsConnect({
        socket: await plane.dial(plane.addressOf(machine.uuid), port),
        ca: authority.crt,
        checkServerIdentity: () => undefined,
      });
      await once(socket, "secureConnect");
      const names = socket.getPeerX509Certificate()?.subjectAltName ?? "";
      socket.destroy();
      if (names.includes("DNS:extra.example")) break;
    }
  }
});

test("another Kubernetes version and other labels show at once, those taken away go", async () => {
  const client = await admin();
  const apply = async (image: string, labels: object) => {
    const disk = machine.chassis.disk.installed?.disk ?? "";
    const [main, ...more] = configOf(plane, "controlplane", { disk, schedulable: true }).toString().split(/^---$/m);
    const document = parseDocument(main ?? "");
    document.setIn(["machine", "kubelet", "image"], `ghcr.io/siderolabs/kubelet:${image}`);
    document.setIn(["cluster", "apiServer", "image"], `registry.k8s.io/kube-apiserver:${image}`);
    document.setIn(["machine", "nodeLabels"], labels);
    await client.applyConfiguration({ data: Buffer.from([document.toString(), ...more].join("---")), mode: 1 });
  };
  await apply("v1.36.2", { site: "north", rack: "1" });
  const version = () =>
    (node()?.status as { nodeInfo?: { kubeletVersion: string } } | undefined)?.nodeInfo?.kubeletVersion;
  const pod = () => objects().get("/pods", "kube-system", `kube-apiserver-${machine.boot?.hostname}`);
  const image = () => (pod()?.spec as { containers?: { image: string }[] } | undefined)?.containers?.[0]?.image;
  assert.equal(version(), "v1.36.2");
  assert.equal(image(), "registry.k8s.io/kube-apiserver:v1.36.2");
  assert.equal(node()?.metadata.labels?.rack, "1");
  objects().update("/nodes", {
    ...node()!,
    metadata: { ...node()!.metadata, labels: { ...node()!.metadata.labels, own: "x" } },
  });
  await apply("v1.36.3", { site: "south" });
  assert.equal(version(), "v1.36.3");
  const { site, rack, own } = node()?.metadata.labels ?? {};
  assert.deepEqual({ site, rack, own }, { site: "south", rack: undefined, own: "x" });
});

test("a staged upgrade takes effect at the boot after the next", async () => {
  const address = plane.addressOf(machine.uuid);
  const boots = machine.chassis.disk.boots;
  const calls = plane.provisions.length;
  await (await admin()).upgrade({ image: "ghcr.io/siderolabs/installer:v1.14.0", stage: true });
  const told = () => plane.provisions.slice(calls).map(({ talosVersion }) => talosVersion);
  await plane.changed.until("two boots", () => told().includes("v1.14.0"));
  assert.deepEqual(told(), ["v1.13.9", "v1.14.0"]);
  assert.equal(machine.chassis.disk.boots, boots + 2);
  assert.ok(plane.stagesOf(address).includes(8), "it told of its upgrade");
  await plane.changed.until(
    "the machine to be ready",
    () => isReady(machine),
    () => standing([machine]),
  );
});

test("a control plane whose disks were wiped can be bootstrapped again, and remembers nothing", async () => {
  const name = { name: "old", namespace: "default" };
  objects().create("/configmaps", { apiVersion: "v1", kind: "ConfigMap", metadata: name });
  const before = machine.boot?.cluster?.etcd.members[0]?.id;
  const calls = plane.provisions.length;
  await (await admin()).reset({
    graceful: false,
    reboot: true,
    systemPartitionsToWipe: [
      { label: "STATE", wipe: true },
      { label: "EPHEMERAL", wipe: true },
    ],
  });
  await plane.joined(machine.uuid, calls);
  // Talos is still on its disk: the configuration takes effect without an installation.
  const disk = machine.chassis.disk.installed?.disk ?? "";
  const data = configOf(plane, "controlplane", { disk, schedulable: true });
  await plane.client(machine.uuid, { mode: "maintenance" }).machine.applyConfiguration({ data, mode: 1 });
  const waits = () => machine.boot?.services.get("etcd") !== undefined && machine.boot.apidTls?.clientCAs !== undefined;
  await plane.changed.until("etcd to wait for its bootstrap", waits);
  await (await admin()).bootstrap({});
  await plane.changed.until(
    "the machine to be ready",
    () => isReady(machine),
    () => standing([machine]),
  );
  assert.equal(objects().get("/configmaps", "default", "old"), undefined);
  assert.ok(node(), "its node is there again");
  const members = machine.boot?.cluster?.etcd.members ?? [];
  assert.equal(members.length, 1);
  assert.notEqual(members[0]?.id, before);
});
