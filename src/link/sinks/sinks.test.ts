import assert from "node:assert/strict";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { EventSinkService } from "#gen/events/events_pb.ts";
import { MachineStatusEventSchema, MachineStatusEvent_MachineStage as Stage } from "#gen/machine/machine_pb.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineStatusSnapshotKind } from "#kinds/machine/machine-status-snapshot.ts";
import { TestLink, TestMachine, until } from "#link/testing.ts";
import { eventsPort } from "./events.ts";
import { logsPort } from "./logs.ts";

const soon = () => AbortSignal.timeout(20_000);
const statusType = "type.googleapis.com/machine.MachineStatusEvent";

let plane: TestLink;
let joinToken: string;
let machine: TestMachine;
let events: Client<typeof EventSinkService>;

before(async () => {
  plane = await TestLink.start();
  joinToken = (await plane.state.require(DefaultJoinTokenKind, "default")).spec.tokenId;
  machine = new TestMachine();
  await machine.join(plane, { joinToken });
  await until(plane.state, LinkKind, machine.uuid, (link) => link?.spec.connected === true);
  events = createClient(EventSinkService, await machine.grpc(eventsPort));
});
after(async () => {
  machine.close();
  await plane.close();
});

const status = (stage: Stage, ready = true) =>
  toBinary(MachineStatusEventSchema, create(MachineStatusEventSchema, { stage, status: { ready } }));
const publish = (value: Uint8Array, typeUrl = statusType, to = events) =>
  to.publish({ id: "c0", data: { typeUrl, value } }, { signal: soon() });
const stageOf = async (uuid: string) =>
  (await plane.state.get(MachineStatusSnapshotKind, uuid))?.spec.machineStatus?.stage;

test("a status is kept; events of other and unknown types, and none at all, are answered and dropped", async () => {
  await publish(status(Stage.BOOTING));
  assert.equal(await stageOf(machine.uuid), Stage.BOOTING);
  for (const typeUrl of [
    "type.googleapis.com/machine.SequenceEvent",
    "type.googleapis.com/x.Unknown",
    "",
    "nonsense/\u0000",
  ])
    await publish(Uint8Array.of(1, 2, 3), typeUrl);
  await events.publish({ id: "none" }, { signal: soon() });
  assert.equal(await stageOf(machine.uuid), Stage.BOOTING);
  await publish(status(Stage.RUNNING));
  assert.equal(await stageOf(machine.uuid), Stage.RUNNING);
});

test("a status that cannot be decoded is answered too, so that those after it come through", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (value) => {
      await publish(value);
    }),
    { numRuns: 100 },
  );
  await publish(Uint8Array.of(0xff, 0xff, 0xff));
  await publish(status(Stage.REBOOTING));
  assert.equal(await stageOf(machine.uuid), Stage.REBOOTING);
});

test("an authority that is no address is none of the plane's troubles", async () => {
  for (const authority of ["fdae::1:8090", "::", "a b", "[", "%zz", "host:99999", ""]) {
    const client = createClient(EventSinkService, await machine.grpc(eventsPort, authority));
    await publish(status(Stage.BOOTING), statusType, client).catch((error: unknown) => {
      assert.ok(error instanceof ConnectError && error.code !== Code.Canceled, `${authority}: ${String(error)}`);
    });
  }
  await publish(status(Stage.RUNNING));
  assert.equal(await stageOf(machine.uuid), Stage.RUNNING);
});

test("what a pending machine told counts from its admission on; of a stranger nothing does", async () => {
  const pending = new TestMachine();
  await pending.join(plane, { joinToken, nodeUniqueToken: "" });
  const transport = createClient(EventSinkService, await pending.grpc(eventsPort));
  await publish(status(Stage.BOOTING), statusType, transport);
  await publish(status(Stage.MAINTENANCE), statusType, transport);
  assert.equal(await plane.state.get(MachineStatusSnapshotKind, pending.uuid), undefined);
  await pending.join(plane, { joinToken });
  await until(
    plane.state,
    MachineStatusSnapshotKind,
    pending.uuid,
    (snapshot) => snapshot?.spec.machineStatus?.stage === Stage.MAINTENANCE,
  );
  const address = pending.address;
  const again = createClient(EventSinkService, await pending.grpc(eventsPort));
  await plane.state.as("link").teardown(LinkKind.key(pending.uuid));
  await until(plane.state, LinkKind, pending.uuid, (link) => link?.metadata.finalizers.length === 0);
  assert.equal(plane.link.machineAt(address), undefined);
  await assert.rejects(
    again.publish({ id: "late", data: { typeUrl: statusType, value: status(Stage.RUNNING) } }, { timeoutMs: 500 }),
    (error: unknown) => error instanceof ConnectError && error.code === Code.DeadlineExceeded,
    "its key is gone from the engine",
  );
  assert.equal(await plane.state.get(MachineStatusSnapshotKind, pending.uuid), undefined);
  pending.close();
});

test("lines of a pending machine are kept from its admission on", async () => {
  const pending = new TestMachine();
  await pending.join(plane, { joinToken, nodeUniqueToken: "" });
  await write(await pending.connect(logsPort), "first boot\nstill pending\n");
  // Another call through the same link: what went before it has arrived.
  await createClient(EventSinkService, await pending.grpc(eventsPort)).publish({ id: "after" }, { timeoutMs: 5000 });
  assert.deepEqual(await plane.link.logs.tail(pending.uuid), []);
  await pending.join(plane, { joinToken });
  await write(await pending.connect(logsPort), "admitted\n");
  assert.deepEqual(await linesUntil(pending.uuid, "admitted"), ["first boot", "still pending", "admitted"]);
  pending.close();
});

/** Lines as they arrive, until one satisfies. */
async function linesUntil(uuid: string, last: string, of = plane): Promise<string[]> {
  const stop = new AbortController();
  const lines: string[] = [];
  for await (const line of of.link.logs.follow(uuid, -1, AbortSignal.any([stop.signal, soon()]))) {
    lines.push(line);
    if (line === last) stop.abort();
  }
  assert.equal(lines.at(-1), last, "the last line did not come");
  return lines;
}

async function write(stream: Duplex, bytes: Uint8Array | string): Promise<void> {
  if (!stream.write(bytes)) await once(stream, "drain", { signal: soon() });
}

test("lines: cut anywhere, in one write or in many, they are kept as they were", async () => {
  await plane.link.logs.remove(machine.uuid);
  const stream = await machine.connect(logsPort);
  const lines = [
    ...Array.from({ length: 20 }, (_, seq) => JSON.stringify({ msg: `häß 漢 😀 ${seq}`, "talos-level": "info", seq })),
    "last",
  ];
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
  for (let at = 0; at < bytes.length; at += 7) await write(stream, bytes.subarray(at, at + 7));
  assert.deepEqual(await linesUntil(machine.uuid, "last"), lines);
  stream.destroy();
});

test("any bytes, empty lines, NULs and lines without end harm nobody", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }), fc.nat(), async (chunks, mark) => {
      const stream = await machine.connect(logsPort);
      for (const chunk of chunks) await write(stream, chunk);
      await write(stream, `\n\n \nmark ${mark}\nwithout an end`);
      stream.end();
      const lines = await linesUntil(machine.uuid, `mark ${mark}`);
      for (const line of lines) assert.ok(line.trim() !== "" && !line.includes("\n"));
      await plane.link.logs.remove(machine.uuid);
    }),
    { numRuns: 15 },
  );
});

test("a line of megabytes comes in pieces, none lost, and memory does not hold it", async () => {
  await plane.link.logs.remove(machine.uuid);
  const stream = await machine.connect(logsPort);
  const body = Buffer.from(Array.from({ length: 300_000 }, (_, index) => 97 + (index % 26)));
  await write(stream, body);
  await write(stream, "\nshort\n");
  const lines = await linesUntil(machine.uuid, "short");
  assert.equal(lines.slice(0, -1).join(""), body.toString());
  for (const line of lines) assert.ok(line.length <= 64 * 1024);
  stream.destroy();
});

test("nothing is ever written back, and strangers are hung up on", async () => {
  const stream = await machine.connect(logsPort);
  stream.on("data", () => assert.fail("the plane wrote to a machine's log stream"));
  await write(stream, "hello\n");
  await linesUntil(machine.uuid, "hello");
  stream.destroy();
});

test("the end of the plane resets open streams: machines, which never read, notice", async () => {
  const other = await TestLink.start();
  const token = (await other.state.require(DefaultJoinTokenKind, "default")).spec.tokenId;
  const client = new TestMachine();
  await client.join(other, { joinToken: token });
  const stream = await client.connect(logsPort);
  stream.on("error", () => {});
  await write(stream, "x\n");
  await linesUntil(client.uuid, "x", other);
  stream.resume();
  const closed = new Promise<void>((resolve, reject) => {
    stream.once("close", resolve);
    soon().addEventListener("abort", () => reject(new Error("the machine did not notice")), { once: true });
  });
  await other.close();
  await closed;
  client.close();
});
