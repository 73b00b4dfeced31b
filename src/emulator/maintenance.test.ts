import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { listTalos, watchTalos } from "#talos/cosi.ts";
import { talosKinds } from "#talos/resources.ts";
import { type Emulator, startEmulator } from "./emulate.ts";
import { types } from "./state/types.ts";
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

let seed = 0;
const boot = async ({ tunnel = false, talosVersion = "v1.13.9" } = {}) => {
  await emulator?.stop();
  const before = plane.provisions.length;
  emulator = await startEmulator({
    apiUrl: plane.url({ tunnel }),
    delays: "none",
    talosVersion,
    seed: `seed ${++seed}`,
  });
  const [machine] = emulator.machines;
  assert.ok(machine);
  const address = await plane.joined(machine.uuid, before);
  return { machine, address, client: plane.client(machine.uuid, { mode: "maintenance" }) };
};
const metaKey = { type: types.metaKey.name, namespace: types.metaKey.namespace, spec: types.metaKey.spec };
const refusal = (code: Code, message: RegExp) => (error: unknown) => {
  const failure = ConnectError.from(error);
  assert.equal(Code[failure.code], Code[code], failure.message);
  assert.match(failure.rawMessage, message);
  return true;
};

for (const tunnel of [false, true]) {
  test(`a machine joins ${tunnel ? "through the gRPC tunnel" : "by UDP"} and answers in maintenance`, async () => {
    const { machine, client, address } = await boot({ tunnel });
    const { messages } = await client.machine.version({});
    assert.equal(messages[0]?.version?.tag, "v1.13.9");
    const disks = await listTalos(client, talosKinds.disk);
    assert.ok(disks.some(({ spec }) => spec.size > 5_000_000_000n && spec.devPath.startsWith("/dev/")));
    const [system] = await listTalos(client, talosKinds.systemInformation);
    assert.equal(system?.spec.uuid, machine.uuid);
    assert.ok((await listTalos(client, talosKinds.processor)).length > 0);
    assert.ok((await listTalos(client, talosKinds.memoryModule)).length > 0);
    const links = await listTalos(client, talosKinds.link);
    assert.ok(links.some(({ id }) => id === (tunnel ? "siderolinktun" : "siderolink")));
    const addresses = await listTalos(client, talosKinds.nodeAddress);
    assert.ok(addresses.some(({ id }) => id === "current"));
    await plane.changed.until("a maintenance event", () => plane.stagesOf(address).includes(3));
    await plane.changed.until("logs", () => (plane.logs.get(address)?.length ?? 0) > 5);
    const lines = (plane.logs.get(address) ?? []).map((line) => JSON.parse(line));
    lines.forEach((line, at) => void assert.equal(line.seq, at));
    assert.equal(lines[0].facility, "kern");
  });
}

test("META 16 is shown, watched, and makes the machine provision again with the same key", async () => {
  const { client } = await boot();
  const first = plane.provisions.at(-1);
  const seen: string[] = [];
  const stop = new AbortController();
  const ready = Promise.withResolvers<void>();
  const watching = watchTalos(
    client,
    metaKey,
    (event) => {
      if (event.kind === "ready") ready.resolve();
      if (event.kind !== "changed") return;
      seen.push(`${event.resource.id}=${event.resource.spec.value}`);
      stop.abort(new Error("seen"));
    },
    stop.signal,
  );
  const ended = assert.rejects(watching, /seen/);
  await ready.promise;
  const count = plane.provisions.length;
  await client.machine.metaWrite({ key: 16, value: Buffer.from("own-token") });
  await plane.changed.until("a second provision", () => plane.provisions.length > count);
  await ended;
  assert.deepEqual(seen, ["0x10=own-token"]);
  const second = plane.provisions.at(-1);
  assert.equal(first?.nodeUniqueToken, "");
  assert.equal(second?.nodeUniqueToken, "own-token");
  assert.equal(second?.nodePublicKey, first?.nodePublicKey);
  assert.equal((await client.machine.version({})).messages.length, 1);
});

test("a bad configuration is refused with the reason, a partial one is taken without leaving maintenance", async () => {
  const { client, machine } = await boot();
  const apply = (text: string) => client.machine.applyConfiguration({ data: Buffer.from(text), mode: 1 });
  await assert.rejects(apply("machine: [oops"), refusal(Code.InvalidArgument, /yaml|parse|unexpected|decod/i));
  await assert.rejects(apply("version: v1alpha1\nmachine: {}\ncluster: {}\n"), refusal(Code.InvalidArgument, /type/));
  await assert.rejects(apply("apiVersion: v1alpha1\nkind: NoSuchConfig\n"), refusal(Code.InvalidArgument, /NoSuch/));
  const { messages } = await apply("apiVersion: v1alpha1\nkind: KmsgLogConfig\nname: x\nurl: tcp://[fdae::9]:1\n");
  assert.equal(messages[0]?.mode, 2);
  assert.equal(machine.stage, "maintenance");
  // Well-formed, but it leads nowhere: the machine takes it and says so in its log.
  await apply("apiVersion: v1alpha1\nkind: SideroLinkConfig\napiUrl: grpc://nowhere\n");
  const kernel = machine.boot?.kernel;
  assert.ok(kernel);
  await new Promise<void>((resolve) => {
    const look = () => {
      if (kernel.from(0).some(({ message }) => /SideroLink API URL has no port/.test(message))) resolve();
    };
    kernel.follow(look);
    look();
  });
});

test("COSI: unknown types are refused, a watch of one absent id says so, writes are refused", async () => {
  const { client } = await boot();
  await assert.rejects(
    client.state.get({ namespace: "x", type: "No.such", id: "1" }),
    refusal(Code.PermissionDenied, /No\.such/),
  );
  await assert.rejects(
    client.state.get({ namespace: "runtime", type: metaKey.type, id: "0x99" }),
    refusal(Code.NotFound, /doesn't exist/),
  );
  await assert.rejects(client.state.create({}), refusal(Code.PermissionDenied, /denied/));
  const stop = new AbortController();
  const kinds: unknown[] = [];
  const request = { namespace: "runtime", type: metaKey.type, id: "0x0c", apiVersion: 1 };
  for await (const { event } of client.state.watch(request, { signal: stop.signal })) {
    kinds.push(event.map(({ eventType }) => eventType));
    if (kinds.length === 2) break;
  }
  assert.deepEqual(kinds, [[], [2]]);
});

test("1.12 serves only the maintenance calls, 1.13 all", async () => {
  const old = await boot({ talosVersion: "v1.12.11" });
  await assert.rejects(old.client.machine.reboot({}), refusal(Code.Unimplemented, /maintenance|unknown/));
  assert.equal((await old.client.machine.version({})).messages[0]?.version?.tag, "v1.12.11");
  const { client } = await boot();
  assert.ok((await client.machine.serviceList({})).messages[0]?.services.some(({ id }) => id === "apid"));
});

test("a reboot comes back with a new WireGuard key", async () => {
  const { machine, client } = await boot();
  const before = plane.provisions.length;
  const old = plane.provisions.at(-1)?.nodePublicKey;
  const id = machine.boot?.bootId;
  await client.machine.reboot({});
  await plane.joined(machine.uuid, before);
  assert.notEqual(plane.provisions.at(-1)?.nodePublicKey, old);
  const again = plane.client(machine.uuid, { mode: "maintenance" });
  const chunks: Buffer[] = [];
  for await (const { bytes } of again.machine.read({ path: "/proc/sys/kernel/random/boot_id" }))
    chunks.push(Buffer.from(bytes));
  assert.notEqual(Buffer.concat(chunks).toString().trim(), id);
});
