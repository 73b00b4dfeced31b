import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { systemClock } from "#lib/clock.ts";
import { listTalos } from "#talos/cosi.ts";
import { issueKubernetesAdmin } from "#talos/pki.ts";
import { talosKinds } from "#talos/resources.ts";
import { openTls } from "#talos/session.ts";
import { type Emulator, startEmulator } from "./emulate.ts";
import type { Machine } from "./machine.ts";
import { isReady, raise, standing } from "./testing/cluster.ts";
import { TestPlane } from "./testing/plane.ts";

let plane: TestPlane;
let emulator: Emulator | undefined;
before(async () => {
  plane = await TestPlane.start();
});
after(async () => {
  await emulator?.stop();
  plane.stop();
});

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
const readiness = (list: NodeList) =>
  Object.fromEntries(
    list.items.map(({ metadata, status }) => [
      metadata.name,
      status.conditions.find(({ type }) => type === "Ready")?.status,
    ]),
  );

test("machines are installed, bootstrapped, become a cluster, survive a restart, and are reset", async (t) => {
  const state = mkdtempSync(join(tmpdir(), "ichor-emulator-"));
  t.after(() => rmSync(state, { recursive: true, force: true }));
  const start = async () => {
    emulator = await startEmulator({ apiUrl: plane.url(), count: 2, delays: "none", stateDir: state });
    return emulator.machines as [Machine, Machine];
  };
  let [control, worker] = await start();
  await raise(plane, [control, worker]);
  const admin = await plane.credentials("os:admin");
  const client = plane.client(control.uuid, admin);
  for (const machine of [control, worker])
    assert.ok(plane.stagesOf(plane.addressOf(machine.uuid)).includes(2), "it told of its installation");
  await assert.rejects(client.machine.bootstrap({}), (error) => ConnectError.from(error).code === Code.AlreadyExists);
  await assert.rejects(
    plane.client(worker.uuid, admin).machine.bootstrap({}),
    (error) => ConnectError.from(error).code === Code.InvalidArgument,
  );
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
  await plane.changed.until(
    "both to be ready again",
    () => isReady(control) && isReady(worker),
    () => standing([control, worker]),
  );
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
