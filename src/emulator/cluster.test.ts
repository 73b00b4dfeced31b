import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { systemClock } from "#lib/clock.ts";
import { listTalos } from "#talos/cosi.ts";
import { printConfig } from "#talos/document.ts";
import { generateConfig } from "#talos/generate.ts";
import { issueKubernetesAdmin } from "#talos/pki.ts";
import { talosKinds } from "#talos/resources.ts";
import { openTls } from "#talos/session.ts";
import { type Emulator, startEmulator } from "./emulate.ts";
import type { Machine } from "./machine.ts";
import { clusterEndpoint, TestPlane } from "./testing/plane.ts";

let plane: TestPlane;
let emulator: Emulator | undefined;
before(async () => {
  plane = await TestPlane.start();
});
after(async () => {
  await emulator?.stop();
  plane.stop();
});

const configOf = (machineType: "controlplane" | "worker") =>
  Buffer.from(
    printConfig(
      generateConfig({
        contract: "1.13",
        clusterName: "test",
        endpoint: clusterEndpoint,
        secrets: plane.secrets,
        machineType,
        kubernetesVersion: "1.36.1",
        installDisk: "/dev/nvme0n1",
        installImage: "ghcr.io/siderolabs/installer:v1.13.9",
      }),
    ),
  );

/** A request to the Kubernetes API of a machine, as the plane's administrator. */
async function kube(path: string, machine: Machine): Promise<{ status: number; body: NodeList }> {
  const { crt, key } = await issueKubernetesAdmin(plane.secrets.kubernetes, 3_600_000, systemClock);
  const socket = await openTls({
    dial: (address, port, signal) => plane.dial(address, port, signal),
    address: plane.addressOf(machine.uuid),
    port: 6443,
    credentials: { mode: "mtls", ca: plane.secrets.kubernetes.crt, cert: crt, key },
  });
  const session = connectHttp2("https://kubernetes", { createConnection: () => socket });
  try {
    const stream = session.request({ ":path": path });
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    return { status: Number(headers[":status"]), body: JSON.parse(Buffer.concat(chunks).toString()) };
  } finally {
    session.destroy();
  }
}

interface NodeList {
  readonly items: {
    readonly metadata: { readonly name: string };
    readonly status: { readonly conditions: { readonly type: string; readonly status: string }[] };
  }[];
}
/** Where the machines stand, with their last words. */
const standing = () =>
  (emulator?.machines ?? [])
    .map(({ stage, boot }) => {
      const words = boot?.kernel.from(boot.kernel.end - 12).map(({ message }) => message);
      return `\n${stage} ${JSON.stringify([...(boot?.unmet ?? [])])}\n  ${words?.join("\n  ")}`;
    })
    .join("");
const readiness = (list: NodeList) =>
  Object.fromEntries(
    list.items.map(({ metadata, status }) => [
      metadata.name,
      status.conditions.find(({ type }) => type === "Ready")?.status,
    ]),
  );

test("machines are installed, bootstrapped, become a cluster, survive a restart, and are reset", async () => {
  const state = mkdtempSync(join(tmpdir(), "ichor-emulator-"));
  const start = async () => {
    emulator = await startEmulator({ apiUrl: plane.url(), count: 2, delays: "none", stateDir: state });
    return emulator.machines as [Machine, Machine];
  };
  let [control, worker] = await start();
  for (const machine of [control, worker]) {
    const address = await plane.joined(machine.uuid);
    const before = plane.provisions.length;
    const client = plane.client(machine.uuid, { mode: "maintenance" });
    const [disk] = await listTalos(client, talosKinds.disk).then((all) =>
      all.filter(({ spec }) => spec.size > 5_000_000_000n && !spec.readonly),
    );
    const config = configOf(machine === control ? "controlplane" : "worker")
      .toString()
      .replaceAll("/dev/nvme0n1", disk?.spec.devPath ?? "");
    const { messages } = await client.machine.applyConfiguration({ data: Buffer.from(config), mode: 1 });
    assert.equal(messages[0]?.mode, 2);
    if (machine === control) plane.controlPlanes.push(address);
    await plane.joined(machine.uuid, before);
    assert.ok(plane.stagesOf(address).includes(2), "it told of its installation");
  }
  const admin = await plane.credentials("os:admin");
  const client = plane.client(control.uuid, admin);
  await plane.changed.until(
    "apid with mTLS",
    () => control.boot?.apidTls?.clientCAs !== undefined && worker.boot?.apidTls?.clientCAs !== undefined,
  );
  await plane.changed.until("etcd is waiting", () => control.boot?.services.get("etcd") !== undefined);
  await assert.rejects(
    plane.client(worker.uuid, admin).machine.bootstrap({}),
    (error) => ConnectError.from(error).code === Code.InvalidArgument,
  );
  await client.machine.bootstrap({});
  await assert.rejects(client.machine.bootstrap({}), (error) => ConnectError.from(error).code === Code.AlreadyExists);
  const ready = (machine: Machine) => machine.stage === "running" && machine.boot?.unmet.size === 0;
  await plane.changed.until("both running and ready", () => ready(control) && ready(worker), standing);
  const { messages: members } = await client.machine.etcdMemberList({});
  assert.equal(members[0]?.members.length, 1);
  assert.equal(members[0]?.members[0]?.hostname, control.boot?.hostname);
  const nodes = await kube("/api/v1/nodes", control);
  assert.deepEqual(readiness(nodes.body), {
    [control.boot?.hostname ?? ""]: "True",
    [worker.boot?.hostname ?? ""]: "True",
  });
  // A reader may read; may not reboot.
  const reader = plane.client(worker.uuid, await plane.credentials("os:reader"));
  assert.equal((await reader.machine.version({})).messages.length, 1);
  await assert.rejects(reader.machine.reboot({}), (error) => ConnectError.from(error).code === Code.PermissionDenied);
  // Several nodes at once through one control plane.
  const both = await client.machine.version(
    {},
    { headers: { nodes: `${plane.addressOf(control.uuid)},${plane.addressOf(worker.uuid)}` } },
  );
  assert.deepEqual(
    both.messages.map(({ metadata }) => metadata?.hostname),
    [plane.addressOf(control.uuid), plane.addressOf(worker.uuid)],
  );
  await assert.rejects(
    plane.client(worker.uuid, { mode: "maintenance" }).machine.version({}),
    "no certificate, no answer",
  );

  await emulator?.stop();
  const before = plane.provisions.length;
  [control, worker] = await start();
  await plane.joined(control.uuid, before);
  await plane.joined(worker.uuid, before);
  await plane.changed.until("running again", () => ready(control) && ready(worker), standing);
  assert.equal(Object.keys(readiness((await kube("/api/v1/nodes", control)).body)).length, 2);

  const workerAddress = plane.addressOf(worker.uuid);
  const calls = plane.provisions.length;
  await plane.client(worker.uuid, admin).machine.reset({
    graceful: true,
    reboot: true,
    systemPartitionsToWipe: [
      { label: "STATE", wipe: true },
      { label: "EPHEMERAL", wipe: true },
    ],
  });
  await plane.joined(worker.uuid, calls);
  assert.ok(plane.stagesOf(workerAddress).includes(7), "it told of its reset");
  const fresh = plane.client(worker.uuid, { mode: "maintenance" });
  assert.equal((await fresh.machine.version({})).messages.length, 1);
  assert.equal((await listTalos(fresh, talosKinds.systemDisk)).length, 1, "Talos is still on its disk");
});
