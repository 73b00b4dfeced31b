import assert from "node:assert/strict";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { after, before, test } from "node:test";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { WireGuardOverGRPCService } from "#gen/sidero/link/link_pb.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenUsageKind } from "#kinds/machine/join-token-usage.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { NodeUniqueTokenKind } from "#kinds/machine/node-unique-token.ts";
import { PendingMachineKind } from "#kinds/machine/pending-machine.ts";
import { ManualClock, systemClock } from "#lib/clock.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { generatePrivateKey } from "#wireguard/device.ts";
import type { Incoming } from "./engine.ts";
import { TestLink, TestMachine, until } from "./testing.ts";

// Peers, engine and tunnel together: real datagrams, a real store, machines with a stack of their own.

const soon = () => AbortSignal.timeout(20_000);
const header = "x-siderolink-ipv6-addr";
let plane: TestLink;
let joinToken: string;

const tokenOf = async (of: TestLink) => (await of.state.require(DefaultJoinTokenKind, "default")).spec.tokenId;
before(async () => {
  plane = await TestLink.start();
  joinToken = await tokenOf(plane);
});
after(async () => {
  await plane.close();
  // A test that failed before its end leaves its own open.
  for (const other of others) await other.close();
});
const others: TestLink[] = [];

/** Another plane. */
async function another(...given: Parameters<typeof TestLink.start>): Promise<TestLink> {
  const started = await TestLink.start(...given);
  others.push(started);
  return started;
}

/** Accepts on a port; answers the connections as they come. */
async function accept(port: number, of = plane) {
  const waiting: Incoming[] = [];
  let wake = () => {};
  const listener = await of.engine.listen(port, (incoming) => {
    incoming.stream.on("error", () => incoming.stream.destroy());
    waiting.push(incoming);
    wake();
  });
  const next = async (): Promise<Incoming> => {
    const signal = soon();
    while (waiting.length === 0) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    return waiting.shift()!;
  };
  return { next, close: () => listener.close() };
}

const connected = (machine: TestMachine, of = plane) =>
  until(of.state, LinkKind, machine.uuid, (link) => link?.spec.connected === true);

async function word(stream: Duplex): Promise<string> {
  const [chunk] = (await once(stream, "data", { signal: soon() })) as [Buffer];
  return chunk.toString();
}

test("a machine comes up: connected, with its endpoint, known by its address; both ends reach each other", async () => {
  const machine = new TestMachine();
  await machine.join(plane, { joinToken });
  await connected(machine);
  const { spec } = await plane.state.require(LinkKind, machine.uuid);
  assert.match(spec.lastEndpoint, /^127\.0\.0\.1:\d+$/);
  assert.equal(plane.link.machineAt(machine.address), machine.uuid);
  const port = await accept(7001);
  const stream = await machine.connect(7001, soon());
  const incoming = await port.next();
  assert.equal(incoming.remoteAddress, machine.address);
  stream.write("to the plane");
  assert.equal(await word(incoming.stream), "to the plane");
  incoming.stream.write("and back");
  assert.equal(await word(stream), "and back");
  await port.close();
  machine.close();
});

test("machines reach the plane and not one another", async () => {
  const [one, two] = [new TestMachine(), new TestMachine()];
  await one.join(plane, { joinToken });
  await two.join(plane, { joinToken });
  await Promise.all([connected(one), connected(two)]);
  two.reaches.push(one.address);
  two.up(two.answer!);
  const port = await accept(7006);
  await one.connect(7006, soon());
  const before = one.received;
  const attempt = new AbortController();
  const direct = two.connect(7006, attempt.signal, one.address);
  // What "two" sends later arrives, so that what it sent before was dropped and is not on its way.
  await two.connect(7006, soon());
  while ((await port.next()).remoteAddress !== two.address);
  await one.connect(7006, soon());
  const answered = one.received - before;
  attempt.abort(new Error("enough"));
  await assert.rejects(direct);
  assert.ok(answered <= 2, `${answered} datagrams came to a machine that exchanged two with the plane`);
  await assert.rejects(plane.engine.connect("fdae:41e4:649b:9303::dead", 1, soon()), { code: "not_found" });
  await port.close();
  one.close();
  two.close();
});

test("a pending machine has the tunnel and no name; gone, its record goes when the link says down", async () => {
  const clock = new ManualClock(Date.now());
  const own = await another(clock);
  const machine = new TestMachine(clock);
  await machine.join(own, { joinToken: await tokenOf(own), nodeUniqueToken: "" });
  clock.advance(1);
  await until(own.state, PendingMachineKind, machine.publicKey, (record) => record?.spec.connected === true);
  assert.equal(own.link.machineAt(machine.address), undefined);
  machine.close();
  clock.advance(276_000);
  await until(own.state, PendingMachineKind, machine.publicKey, (record) => record === undefined);
  await own.close();
});

test("an admitted machine that falls silent is disconnected after 275 s, and stays known", async () => {
  const clock = new ManualClock(Date.now());
  const own = await another(clock);
  const machine = new TestMachine(clock);
  await machine.join(own, { joinToken: await tokenOf(own) });
  clock.advance(1);
  await connected(machine, own);
  machine.close();
  clock.advance(274_000);
  assert.equal((await own.state.require(LinkKind, machine.uuid)).spec.connected, true);
  clock.advance(2_000);
  await until(own.state, LinkKind, machine.uuid, (link) => link?.spec.connected === false);
  assert.equal(own.link.machineAt(machine.address), machine.uuid);
  await own.close();
});

test("forgetting a machine removes what is kept of it, in whatever order it is asked for", async () => {
  const machine = new TestMachine();
  await machine.join(plane, { joinToken });
  await connected(machine);
  plane.link.logs.append(machine.uuid, "a line");
  await plane.state.as("link").teardown(LinkKind.key(machine.uuid));
  await until(plane.state, LinkKind, machine.uuid, (link) => link?.metadata.finalizers.length === 0);
  assert.equal(plane.link.machineAt(machine.address), undefined);
  assert.deepEqual(await plane.link.logs.tail(machine.uuid), []);
  assert.equal(await plane.state.get(NodeUniqueTokenKind, machine.uuid), undefined);
  assert.equal(await plane.state.get(JoinTokenUsageKind, machine.uuid), undefined);
  await assert.rejects(plane.engine.connect(machine.address, 50_000, soon()), { code: "not_found" });
  machine.close();
});

test("a plane that restarts knows its machines and calls them first", async () => {
  const store = new MemoryStore({ clock: systemClock });
  const given = { state: new State(store), privateKey: generatePrivateKey() };
  const first = await another(systemClock, given);
  const machine = new TestMachine();
  await machine.join(first, { joinToken: await tokenOf(first) });
  await connected(machine, first);
  await first.close();
  const second = await another(systemClock, given);
  assert.equal(second.link.machineAt(machine.address), machine.uuid);
  // Its endpoint was kept: the plane can speak first, and the machine, which still sends elsewhere, answers here.
  const port = await accept(7002, second);
  const stream = await machine.connect(7002, soon());
  assert.equal((await port.next()).remoteAddress, machine.address);
  stream.destroy();
  await second.close();
  machine.close();
});

test("a record that no peer can be made of keeps nobody else out", async () => {
  const own = await another();
  const write = (id: string, spec: { nodeSubnet: string; nodePublicKey: string; lastEndpoint?: string }) =>
    own.state.as("link").modify(LinkKind, id, (draft) => void Object.assign(draft.spec, spec));
  await write("zero-key", {
    nodeSubnet: "fdae:41e4:649b:9303::aa/64",
    nodePublicKey: Buffer.alloc(32).toString("base64"),
  });
  await write("no-address", { nodeSubnet: "", nodePublicKey: "" });
  await write("bad-endpoint", {
    nodeSubnet: "fdae:41e4:649b:9303::ab/64",
    nodePublicKey: new TestMachine().publicKey,
    lastEndpoint: "nonsense",
  });
  const machine = new TestMachine();
  await machine.join(own, { joinToken: await tokenOf(own) });
  await connected(machine, own);
  assert.equal(own.link.machineAt(machine.address), machine.uuid);
  machine.close();
  await own.close();
});

test("the end of the engine resets what is open", async () => {
  const own = await another();
  const machine = new TestMachine();
  await machine.join(own, { joinToken: await tokenOf(own) });
  const port = await accept(7003, own);
  const stream = await machine.connect(7003, soon());
  await port.next();
  stream.resume();
  const failed = once(stream, "error", { signal: soon() });
  await own.close();
  await failed;
  machine.close();
});

test("a known machine that boots without its unique token is pending, heard and admitted again, at its address", async () => {
  const machine = new TestMachine();
  await machine.join(plane, { joinToken });
  await connected(machine);
  const { address } = machine;
  machine.close();
  // Talos was not installed yet: META was in memory and went with the boot, and so did the key.
  const boot = machine.reboot();
  await boot.join(plane, { joinToken, nodeUniqueToken: "" });
  assert.equal(boot.address, address);
  await until(plane.state, PendingMachineKind, boot.publicKey, (record) => record?.spec.connected === true);
  assert.equal(plane.link.machineAt(address), undefined, "until it has its token it is nobody");
  const { spec } = await plane.state.require(LinkKind, machine.uuid);
  assert.equal(spec.connected, false, "its former life is over");
  // Another boot before anybody wrote a token: the record of the first goes.
  boot.close();
  const again = machine.reboot();
  await again.join(plane, { joinToken, nodeUniqueToken: "" });
  await until(plane.state, PendingMachineKind, again.publicKey, (record) => record?.spec.connected === true);
  await until(plane.state, PendingMachineKind, boot.publicKey, (record) => record === undefined);
  await again.join(plane, { joinToken });
  await until(plane.state, LinkKind, machine.uuid, (link) => link?.spec.connected === true);
  assert.equal((await plane.state.require(LinkKind, machine.uuid)).spec.nodePublicKey, again.publicKey);
  await until(plane.state, PendingMachineKind, again.publicKey, (record) => record === undefined);
  assert.equal(plane.link.machineAt(address), machine.uuid);
  const port = await accept(7007);
  await again.connect(7007, soon());
  assert.equal((await port.next()).remoteAddress, address);
  await port.close();
  again.close();
});

test("machines that are admitted at once keep the sessions that they had while pending, however slow the disk is", async () => {
  const persist = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  const state = new State(new MemoryStore({ clock: systemClock, persist }));
  const own = await another(systemClock, { state, privateKey: generatePrivateKey() });
  const token = await tokenOf(own);
  const machines = Array.from({ length: 12 }, () => new TestMachine());
  for (const machine of machines) await machine.join(own, { joinToken: token, nodeUniqueToken: "" });
  for (const machine of machines)
    await until(state, PendingMachineKind, machine.publicKey, (record) => record?.spec.connected === true);
  const port = await accept(7008, own);
  await Promise.all(
    machines.map(async (machine) => {
      await machine.provision(own, { joinToken: token });
      assert.equal(own.link.machineAt(machine.address), machine.uuid, "known as soon as it is told");
      // A session that was lost is noticed after 15 s.
      await machine.connect(7008, AbortSignal.timeout(5_000));
    }),
  );
  for (const machine of machines)
    await until(state, PendingMachineKind, machine.publicKey, (record) => record === undefined);
  await Promise.all(machines.map((machine) => machine.connect(7008, AbortSignal.timeout(5_000))));
  await port.close();
  for (const machine of machines) machine.close();
  await own.close();
});

test("a stranger with a join token who says to be a known machine goes, and the machine is itself again", async () => {
  const clock = new ManualClock(Date.now());
  const own = await another(clock);
  const token = await tokenOf(own);
  const machine = new TestMachine(clock);
  await machine.join(own, { joinToken: token });
  clock.advance(1);
  await connected(machine, own);
  const stranger = machine.reboot();
  await stranger.join(own, { joinToken: token, nodeUniqueToken: "" });
  clock.advance(1);
  await until(own.state, PendingMachineKind, stranger.publicKey, (record) => record?.spec.connected === true);
  assert.equal(own.link.machineAt(machine.address), undefined);
  stranger.close();
  clock.advance(276_000);
  await until(own.state, PendingMachineKind, stranger.publicKey, (record) => record === undefined);
  assert.equal(own.link.machineAt(machine.address), machine.uuid);
  // The machine's own datagrams are taken again.
  await machine.join(own, { joinToken: token });
  clock.advance(1);
  await connected(machine, own);
  machine.close();
  await own.close();
});

test("a plane that restarts in the middle of that goes on with the newer boot", async () => {
  const given = { state: new State(new MemoryStore({ clock: systemClock })), privateKey: generatePrivateKey() };
  const first = await another(systemClock, given);
  const token = await tokenOf(first);
  const machine = new TestMachine();
  await machine.join(first, { joinToken: token });
  await connected(machine, first);
  machine.close();
  const boot = machine.reboot();
  await boot.join(first, { joinToken: token, nodeUniqueToken: "" });
  await until(first.state, PendingMachineKind, boot.publicKey, (record) => record?.spec.connected === true);
  await first.close();
  const second = await another(systemClock, given);
  assert.equal(second.link.machineAt(boot.address), undefined);
  await boot.join(second, { joinToken: token });
  await until(second.state, LinkKind, machine.uuid, (link) => link?.spec.connected === true);
  assert.equal(second.link.machineAt(boot.address), machine.uuid);
  boot.close();
  await second.close();
});

test("who does not come back after a restart is disconnected, and who never came up is not kept", async () => {
  const clock = new ManualClock(Date.now());
  const given = { state: new State(new MemoryStore({ clock })), privateKey: generatePrivateKey() };
  const first = await another(clock, given);
  const joinToken = await tokenOf(first);
  const machine = new TestMachine(clock);
  await machine.join(first, { joinToken });
  clock.advance(1);
  await connected(machine, first);
  machine.close();
  await first.close();
  const second = await another(clock, given);
  const silent = new TestMachine(clock);
  await silent.join(second, { joinToken, nodeUniqueToken: "" });
  silent.close();
  assert.ok(await second.state.get(PendingMachineKind, silent.publicKey));
  clock.advance(276_000);
  await until(second.state, LinkKind, machine.uuid, (link) => link?.spec.connected === false);
  await until(second.state, PendingMachineKind, silent.publicKey, (record) => record === undefined);
  assert.equal(second.link.machineAt(machine.address), machine.uuid);
  await second.close();
});

/** Datagrams of a machine through the gRPC tunnel, by the in-process transport. */
function tunnel(machine: TestMachine, id: string) {
  const client: Client<typeof WireGuardOverGRPCService> = createClient(WireGuardOverGRPCService, plane.transport);
  const queue: Uint8Array[] = [];
  let wake = () => {};
  const stop = new AbortController();
  stop.signal.addEventListener("abort", () => wake());
  async function* out() {
    while (!stop.signal.aborted) {
      const next = queue.shift();
      if (next) yield { Data: next };
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }
  const ended = (async () => {
    for await (const { Data } of client.createStream(out(), { headers: id ? { [header]: id } : {} }))
      machine.receive(Data);
  })();
  const send = (datagram: Uint8Array) => {
    queue.push(Uint8Array.from(datagram));
    wake();
  };
  return { send, ended, stop: () => stop.abort() };
}

/** How a stream ended. */
async function endOf(ended: Promise<void>): Promise<string> {
  try {
    await ended;
    return "ended";
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return `${Code[code]}: ${rawMessage}`;
  }
}

test("a machine behind a tunnel comes up and is reached like any other", async () => {
  const machine = new TestMachine();
  await machine.join(plane, { joinToken, wireguardOverGrpc: true });
  const id = machine.answer!.grpcPeerAddrPort;
  const carrier = tunnel(machine, id);
  machine.up(machine.answer!, carrier.send);
  await connected(machine);
  assert.equal((await plane.state.require(LinkKind, machine.uuid)).spec.lastEndpoint, `tunnel:${id}`);
  const port = await accept(7004);
  const stream = await machine.connect(7004, soon());
  const incoming = await port.next();
  incoming.stream.write("through the tunnel");
  assert.equal(await word(stream), "through the tunnel");
  // Garbage in the stream is what it would be in UDP.
  for (const bytes of [new Uint8Array(), Uint8Array.of(1), new Uint8Array(100_000), Buffer.from("4aaaaaaaaaaaaaaa")])
    carrier.send(bytes);
  stream.write("still there");
  assert.equal(await word(incoming.stream), "still there");
  await port.close();
  carrier.stop();
  machine.close();
  assert.equal(await endOf(carrier.ended), "ended");
});

test("a second stream of a machine ends the first, with the words that clients look for", async () => {
  const machine = new TestMachine();
  await machine.join(plane, { joinToken, wireguardOverGrpc: true });
  const id = machine.answer!.grpcPeerAddrPort;
  const first = tunnel(machine, id);
  machine.up(machine.answer!, first.send);
  await connected(machine);
  const second = tunnel(machine, id);
  assert.equal(await endOf(first.ended), "Aborted: peer replaced");
  const other = new TestMachine();
  machine.up(machine.answer!, second.send);
  const port = await accept(7005);
  await machine.connect(7005, soon());
  assert.equal((await port.next()).remoteAddress, machine.address);
  await port.close();
  second.stop();
  assert.equal(await endOf(second.ended), "ended");
  other.close();
  machine.close();
});

test("who may not use a tunnel is told so: strangers, malformed names, and those whose tunnel was another", async () => {
  const machine = new TestMachine();
  const allowed = "PermissionDenied: peer not allowed";
  assert.equal(await endOf(tunnel(machine, "[fdae:41e4:649b:9304::1]:50889").ended), allowed);
  for (const id of ["", "fdae::1:50889", "[fdae::1]", "[x]:1", "[fdae::1]:1234567"])
    assert.match(await endOf(tunnel(machine, id).ended), /^Unknown: missing or malformed/, id);
  await machine.join(plane, { joinToken, wireguardOverGrpc: true });
  const old = machine.answer!.grpcPeerAddrPort;
  const boot = new TestMachine();
  await machine.join(plane, { joinToken, wireguardOverGrpc: true, nodePublicKey: boot.publicKey });
  assert.notEqual(machine.answer!.grpcPeerAddrPort, old);
  assert.equal(await endOf(tunnel(machine, old).ended), allowed, "the name of an earlier boot");
  await machine.join(plane, { joinToken, nodePublicKey: boot.publicKey });
  machine.close();
});
