import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { type ProvisionRequestSchema, type ProvisionResponse, ProvisionService } from "#gen/sidero/link/link_pb.ts";
import { pending as marks } from "#kinds/labels.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { GRPCTunnelConfigKind } from "#kinds/machine/grpc-tunnel-config.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { JoinTokenUsageKind } from "#kinds/machine/join-token-usage.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { NodeUniqueTokenKind } from "#kinds/machine/node-unique-token.ts";
import { PendingMachineKind } from "#kinds/machine/pending-machine.ts";
import { PendingMachineStatusKind } from "#kinds/machine/pending-machine-status.ts";
import { ManualClock } from "#lib/clock.ts";
import { parseHostPort } from "#lib/ip.ts";
import { planeAddress } from "./address.ts";
import { makeJoinToken, providerKey } from "./join-token.ts";
import { preferredLast } from "./provision.ts";
import { TestLink, TestMachine, until } from "./testing.ts";

type Request = MessageInitShape<typeof ProvisionRequestSchema>;

const clock = new ManualClock();
let plane: TestLink;
let joinToken: string;

before(async () => {
  plane = await TestLink.start(clock);
  joinToken = (await plane.state.require(DefaultJoinTokenKind, "default")).spec.tokenId;
});
after(() => plane.close());

async function provision(request: Request): Promise<ProvisionResponse> {
  const answer = await plane.transport.unary(ProvisionService.method.provision, undefined, undefined, {}, request);
  return answer.message as ProvisionResponse;
}

/** That a request is refused with a code, without a word of any token in the message. */
async function refused(code: Code, request: Request): Promise<void> {
  await assert.rejects(provision(request), (error: unknown) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.message);
    for (const secret of [request.joinToken, request.nodeUniqueToken])
      if (secret && secret.length > 8) assert.ok(!error.message.includes(secret), "a token in a message");
    return true;
  });
}

async function token(spec: { expirationTime?: Timestamp; revoked?: boolean } = {}): Promise<string> {
  const id = makeJoinToken();
  await plane.state.create(JoinTokenKind, id, { name: "test", ...spec });
  return id;
}

function signed(version: 1 | 2, key: string, extra: Record<string, string>, json?: string): string {
  const text = json ?? JSON.stringify(Object.fromEntries(Object.entries(extra).sort(([a], [b]) => (a < b ? -1 : 1))));
  const signature = createHmac("sha256", key).update(text).digest("base64");
  return `v${version}:${Buffer.from(JSON.stringify({ extra_data: extra, signature })).toString("base64")}`;
}

test("the answer: an address in the prefix, the plane's key, address and endpoint", async () => {
  const machine = new TestMachine();
  const answer = await provision(machine.request({ joinToken }));
  assert.match(answer.nodeAddressPrefix, /^fdae:41e4:649b:9303:[0-9a-f:]+\/64$/);
  assert.equal(answer.serverAddress, planeAddress);
  assert.equal(answer.serverPublicKey, Buffer.from(plane.engine.publicKey).toString("base64"));
  assert.deepEqual(answer.serverEndpoint, [`127.0.0.1:${plane.engine.udp.port}`]);
  assert.equal(answer.grpcPeerAddrPort, "");
  const link = await plane.state.require(LinkKind, machine.uuid);
  assert.equal(link.spec.nodeSubnet, answer.nodeAddressPrefix);
  assert.equal(link.spec.nodePublicKey, machine.publicKey);
  assert.deepEqual(link.metadata.finalizers, ["link"]);
  assert.equal((await plane.state.require(JoinTokenUsageKind, machine.uuid)).spec.tokenId, joinToken);
  assert.equal((await plane.state.require(NodeUniqueTokenKind, machine.uuid)).spec.token, machine.uniqueToken);
});

test("join tokens: who is let in, and who is not", async (t) => {
  const fresh = (text: string) => new TestMachine().request({ joinToken: text });
  const cases: [string, () => Promise<string> | string, Code | undefined][] = [
    ["active", () => token(), undefined],
    ["expires later", () => token({ expirationTime: timestampFromMs(clock.now() + 1) }), undefined],
    ["expires now", () => token({ expirationTime: timestampFromMs(clock.now()) }), Code.PermissionDenied],
    ["revoked", () => token({ revoked: true }), Code.PermissionDenied],
    ["unknown", () => makeJoinToken(), Code.PermissionDenied],
    ["none", () => "", Code.PermissionDenied],
    ["v1 signed by the default", () => signed(1, joinToken, { "omni.sidero.dev/machine-request": "m" }), undefined],
    ["v2 signed by the default", () => signed(2, joinToken, { a: "b" }), undefined],
    ["v2 of a provider", () => signed(2, joinToken, { [providerKey]: "p" }), Code.Unimplemented],
    ["v1 signed by another", async () => signed(1, await token(), { a: "b" }), Code.PermissionDenied],
    ["v1 with changed data", () => signed(1, joinToken, { a: "c" }, '{"a":"b"}'), Code.PermissionDenied],
    ["v1 that is no base64", () => "v1:***", Code.PermissionDenied],
    ["v1 that is no JSON", () => `v1:${Buffer.from("nope").toString("base64")}`, Code.PermissionDenied],
    ["v2 without fields", () => `v2:${Buffer.from("{}").toString("base64")}`, Code.PermissionDenied],
    ["v2 that is null", () => `v2:${Buffer.from("null").toString("base64")}`, Code.PermissionDenied],
    ["v3", () => signed(1, joinToken, { a: "b" }).replace("v1:", "v3:"), Code.PermissionDenied],
    ["a name of every object", () => "__proto__", Code.PermissionDenied],
    ["very long", () => "x".repeat(1 << 20), Code.PermissionDenied],
  ];
  for (const [name, make, code] of cases) {
    await t.test(name, async () => {
      const request = fresh(await make());
      if (code === undefined) await provision(request);
      else {
        await refused(code, request);
        assert.equal(await plane.state.get(LinkKind, request.nodeUuid!), undefined);
        assert.equal(await plane.state.get(NodeUniqueTokenKind, request.nodeUuid!), undefined);
      }
    });
  }
});

test("a token that expires, is revoked or goes lets nobody new in, but those who joined with it stay", async () => {
  const expiring = await token({ expirationTime: timestampFromMs(clock.now() + 60_000) });
  const machine = new TestMachine();
  const first = await provision(machine.request({ joinToken: expiring }));
  clock.advance(60_000);
  await refused(Code.PermissionDenied, new TestMachine().request({ joinToken: expiring }));
  const again = await provision(machine.request({ joinToken: expiring }));
  assert.equal(again.nodeAddressPrefix, first.nodeAddressPrefix);

  const revoked = await token();
  await plane.state.update(JoinTokenKind, revoked, ({ spec }) => {
    spec.revoked = true;
  });
  await refused(Code.PermissionDenied, new TestMachine().request({ joinToken: revoked }));

  const leaving = await token();
  await plane.state.addFinalizer(JoinTokenKind.key(leaving), "test");
  await plane.state.teardown(JoinTokenKind.key(leaving));
  await refused(Code.PermissionDenied, new TestMachine().request({ joinToken: leaving }));
});

test("signed tokens fall with the default token that signed them", async () => {
  const other = await token();
  const text = signed(1, joinToken, { z: "<&>", a: "ü\u2028" }, '{"a":"ü\\u2028","z":"\\u003c\\u0026\\u003e"}');
  await provision(new TestMachine().request({ joinToken: text }));
  const change = (tokenId: string) =>
    plane.state.update(DefaultJoinTokenKind, "default", ({ spec }) => {
      spec.tokenId = tokenId;
    });
  await change(other);
  await refused(Code.PermissionDenied, new TestMachine().request({ joinToken: text }));
  await change(joinToken);
  await provision(new TestMachine().request({ joinToken: text }));
});

test("without a unique token: pending, by key; a second boot is a second record", async () => {
  const machine = new TestMachine();
  const request = machine.request({ joinToken, nodeUniqueToken: "" });
  const first = await provision(request);
  const record = await plane.state.require(PendingMachineKind, machine.publicKey);
  assert.equal(record.metadata.labels[marks.uuidLabel], machine.uuid);
  assert.equal(marks.conflictAnnotation in record.metadata.annotations, false);
  assert.equal(await plane.state.get(LinkKind, machine.uuid), undefined);
  assert.deepEqual(await provision(request), first, "idempotent for one key");
  const nextBoot = new TestMachine();
  await provision({ ...request, nodePublicKey: nextBoot.publicKey });
  assert.ok(await plane.state.get(PendingMachineKind, nextBoot.publicKey));
});

test("pending, then with its unique token: admitted at the same address, the pending record goes", async () => {
  const machine = new TestMachine();
  const first = await provision(machine.request({ joinToken, nodeUniqueToken: "" }));
  await plane.state.modify(PendingMachineStatusKind, machine.publicKey, ({ spec }) => {
    spec.talosInstalled = true;
  });
  const second = await provision(machine.request({ joinToken }));
  assert.equal(second.nodeAddressPrefix, first.nodeAddressPrefix);
  const link = await plane.state.require(LinkKind, machine.uuid);
  assert.ok(marks.installedAnnotation in link.metadata.annotations);
  await until(plane.state, PendingMachineKind, machine.publicKey, (record) => record === undefined);
  assert.equal(plane.link.machineAt(first.nodeAddressPrefix.split("/")[0]!), machine.uuid);
});

test("a reboot: another key, the same address; only the new key is heard", async () => {
  const machine = new TestMachine();
  const first = await provision(machine.request({ joinToken, wireguardOverGrpc: true }));
  const reboot = new TestMachine();
  const second = await provision(
    machine.request({ joinToken: "", nodePublicKey: reboot.publicKey, wireguardOverGrpc: true }),
  );
  assert.equal(second.nodeAddressPrefix, first.nodeAddressPrefix);
  assert.notEqual(second.grpcPeerAddrPort, first.grpcPeerAddrPort, "the virtual address belongs to one boot");
  const { spec } = await plane.state.require(LinkKind, machine.uuid);
  assert.equal(spec.nodePublicKey, reboot.publicKey);
  assert.equal(spec.connected, false);
  assert.equal(spec.lastEndpoint, "");
});

test("unique tokens decide: other text, same hardware", async () => {
  const machine = new TestMachine();
  await provision(machine.request({ joinToken }));
  const fingerprint = (JSON.parse(machine.uniqueToken) as { Fingerprint: string }).Fingerprint;
  const other = JSON.stringify({ Fingerprint: fingerprint, Token: randomUUID() });
  await provision(machine.request({ nodeUniqueToken: other }));
  assert.equal((await plane.state.require(NodeUniqueTokenKind, machine.uuid)).spec.token, other);
  await plane.state.as("link").update(LinkKind, machine.uuid, ({ annotations }) => {
    annotations[marks.installedAnnotation] = "";
  });
  await refused(Code.PermissionDenied, machine.request({ joinToken }));
  await provision(machine.request({ nodeUniqueToken: other }));
});

test("unique tokens decide: the same UUID on other hardware is a conflict, and needs a join token", async () => {
  const machine = new TestMachine();
  const first = await provision(machine.request({ joinToken }));
  const twin = new TestMachine();
  const request: Request = { ...twin.request(), nodeUuid: machine.uuid };
  await refused(Code.PermissionDenied, request);
  const answer = await provision({ ...request, joinToken });
  assert.notEqual(answer.nodeAddressPrefix, first.nodeAddressPrefix);
  const record = await plane.state.require(PendingMachineKind, twin.publicKey);
  assert.ok(marks.conflictAnnotation in record.metadata.annotations);
  const { spec } = await plane.state.require(LinkKind, machine.uuid);
  assert.equal(spec.nodePublicKey, machine.publicKey, "the first stays what it was");
  // It gets another UUID, and comes with it.
  const uuid = randomUUID();
  const settled = await provision({ ...request, joinToken, nodeUuid: uuid });
  assert.equal(settled.nodeAddressPrefix, answer.nodeAddressPrefix);
  await until(plane.state, PendingMachineKind, twin.publicKey, (gone) => gone === undefined);
  assert.equal(plane.link.machineAt(settled.nodeAddressPrefix.split("/")[0]!), uuid);
});

test("a machine that was taken for another and turns out to be the known one keeps its tunnel", async () => {
  const machine = new TestMachine();
  const known = await provision(machine.request({ joinToken }));
  const boot = new TestMachine();
  const asTwin = { ...machine.request({ joinToken }), nodePublicKey: boot.publicKey };
  await provision({ ...asTwin, nodeUniqueToken: boot.uniqueToken });
  assert.equal((await provision(asTwin)).nodeAddressPrefix, known.nodeAddressPrefix);
  await until(plane.state, PendingMachineKind, boot.publicKey, (record) => record === undefined);
  // The end of the pending record must not take the key of the link from the engine.
  const spoken = new TestMachine();
  Object.assign(spoken, { privateKey: boot.privateKey });
  spoken.up(known);
  await until(plane.state, LinkKind, machine.uuid, (link) => link?.spec.connected === true);
  spoken.close();
});

test("unique tokens that cannot be read are refused, without their text", async () => {
  for (const nodeUniqueToken of [
    "nonsense-secret",
    "{}",
    "null",
    '{"Token":""}',
    '{"Token":5}',
    "[]",
    `"${"x".repeat(9000)}"`,
  ])
    await refused(Code.PermissionDenied, new TestMachine().request({ joinToken, nodeUniqueToken }));
});

test("machines before 1.6 join by the join token alone, unless a unique token is kept", async () => {
  for (const talosVersion of ["v1.5.3", "1.0.0", "v0.14.0", undefined, "", "rubbish"]) {
    const machine = new TestMachine();
    const { talosVersion: _, ...rest } = machine.request({ nodeUniqueToken: "" });
    const request: Request = talosVersion === undefined ? rest : { ...rest, talosVersion };
    await refused(Code.PermissionDenied, request);
    await provision({ ...request, joinToken });
    assert.ok(await plane.state.get(LinkKind, machine.uuid));
    await plane.state.as("link").modify(NodeUniqueTokenKind, machine.uuid, ({ spec }) => {
      spec.token = machine.uniqueToken;
    });
    await refused(Code.PermissionDenied, { ...request, joinToken });
  }
});

test("the tunnel: asked for by the machine, or forced on and off for it", async () => {
  const asks = new TestMachine();
  const tunnelled = await provision(asks.request({ joinToken, wireguardOverGrpc: true }));
  const { host, port } = parseHostPort(tunnelled.grpcPeerAddrPort);
  assert.match(host, /^fdae:41e4:649b:9304:/);
  assert.equal(port, 50_889);
  assert.deepEqual(tunnelled.serverEndpoint, [tunnelled.grpcPeerAddrPort]);
  assert.deepEqual(await provision(asks.request({ joinToken, wireguardOverGrpc: true })), tunnelled);
  const force = (uuid: string, enabled: boolean) => plane.state.create(GRPCTunnelConfigKind, uuid, { enabled });
  await force(asks.uuid, false);
  assert.equal((await provision(asks.request({ joinToken, wireguardOverGrpc: true }))).grpcPeerAddrPort, "");
  const other = new TestMachine();
  await force(other.uuid, true);
  assert.notEqual((await provision(other.request({ joinToken }))).grpcPeerAddrPort, "");
});

test("a machine that is being forgotten waits until that is done", async () => {
  const machine = new TestMachine();
  await provision(machine.request({ joinToken }));
  await plane.state.addFinalizer(LinkKind.key(machine.uuid), "test");
  await plane.state.as("link").teardown(LinkKind.key(machine.uuid));
  await refused(Code.AlreadyExists, machine.request({ joinToken }));
  await plane.state.removeFinalizer(LinkKind.key(machine.uuid), "test");
  await until(plane.state, LinkKind, machine.uuid, (link) => link?.metadata.finalizers.length === 0);
  await plane.state.as("link").destroy(LinkKind.key(machine.uuid));
  await provision(machine.request({ joinToken }));
});

test("calls of one machine at once agree: one record, one address, one token", async () => {
  const machine = new TestMachine();
  const answers = await Promise.all(Array.from({ length: 40 }, () => provision(machine.request({ joinToken }))));
  assert.equal(new Set(answers.map(({ nodeAddressPrefix }) => nodeAddressPrefix)).size, 1);
  const upper = await provision(machine.request({ joinToken, nodeUuid: machine.uuid.toUpperCase() }));
  assert.equal(upper.nodeAddressPrefix, answers[0]!.nodeAddressPrefix);
  // Different boots at once: one of them is what is kept, whole.
  const boots = Array.from({ length: 20 }, () => new TestMachine());
  await Promise.all(boots.map((boot) => provision(machine.request({ joinToken, nodePublicKey: boot.publicKey }))));
  const { spec } = await plane.state.require(LinkKind, machine.uuid);
  assert.ok(boots.some(({ publicKey }) => publicKey === spec.nodePublicKey));
  assert.equal(spec.nodeSubnet, answers[0]!.nodeAddressPrefix);
});

test("two hundred machines at once get two hundred addresses", async () => {
  const machines = Array.from({ length: 200 }, () => new TestMachine());
  const answers = await Promise.all(machines.map((machine) => provision(machine.request({ joinToken }))));
  assert.equal(new Set(answers.map(({ nodeAddressPrefix }) => nodeAddressPrefix)).size, 200);
});

test("keys and UUIDs that are none are refused, and so are keys of low order: nobody after them suffers", async () => {
  const machine = new TestMachine();
  const keys = [
    "",
    "short",
    machine.publicKey.slice(0, -1),
    `${machine.publicKey}AAAA`,
    ` ${machine.publicKey}`,
    machine.publicKey.replaceAll("=", ""),
    Buffer.alloc(32).toString("base64"),
    Buffer.from(`01${"00".repeat(31)}`, "hex").toString("base64"),
    Buffer.from(`ec${"ff".repeat(30)}7f`, "hex").toString("base64"),
  ];
  for (const nodePublicKey of keys) await refused(Code.InvalidArgument, machine.request({ joinToken, nodePublicKey }));
  for (const nodeUuid of [
    "",
    "x",
    "../../etc/passwd",
    `${machine.uuid}\n`,
    machine.uuid.replaceAll("-", ""),
    "__proto__",
  ])
    await refused(Code.InvalidArgument, machine.request({ joinToken, nodeUuid }));
  await provision(machine.request({ joinToken }));
});

test("any request: answered or refused with a known code, and nothing is kept of who has no token", async () => {
  const before = (await plane.state.list(LinkKind)).length + (await plane.state.list(PendingMachineKind)).length;
  const allowed = [Code.InvalidArgument, Code.PermissionDenied, Code.Unimplemented];
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string().map((value) => `v1:${Buffer.from(value).toString("base64")}`),
    fc.json().map((value) => `v2:${Buffer.from(value).toString("base64")}`),
    fc.json(),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        nodeUuid: fc.oneof(fc.uuid(), fc.string()),
        nodePublicKey: fc.oneof(
          fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("base64")),
          fc.string(),
        ),
        joinToken: text,
        nodeUniqueToken: text,
        talosVersion: fc.oneof(fc.constantFrom("v1.13.0", "v1.4.0"), fc.string()),
        wireguardOverGrpc: fc.boolean(),
      }),
      async (request) => {
        await assert.rejects(provision(request), (error: unknown) => {
          assert.ok(error instanceof ConnectError && allowed.includes(error.code), String(error));
          return true;
        });
      },
    ),
    { numRuns: 400 },
  );
  const now = (await plane.state.list(LinkKind)).length + (await plane.state.list(PendingMachineKind)).length;
  assert.equal(now, before);
});

test("the preferred endpoint is last on the wire, the former last one first", () => {
  assert.deepEqual(preferredLast([]), []);
  assert.deepEqual(preferredLast(["a"]), ["a"]);
  assert.deepEqual(preferredLast(["a", "b"]), ["b", "a"]);
  assert.deepEqual(preferredLast(["a", "b", "c", "d"]), ["d", "b", "c", "a"]);
});
