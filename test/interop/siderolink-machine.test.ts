// A machine on the stock siderolink module, the stock COSI server and Talos' own messages, in a network namespace of its own, joins a
// real plane: what our emulator and our link might both misread, this one reads right.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { parse } from "yaml";
import { TestPlane } from "../e2e/harness.ts";
import { goTool } from "./build.ts";
import { type Inside, Namespace } from "./netns.ts";
import { eventually } from "./until.ts";

const plane = new TestPlane("siderolink");
const planeAddress = "fdae:41e4:649b:9303::1";
let skip: string | false = false;
let space: Namespace;
let program = "";
let api = "";
let joinToken = "";

before(async () => {
  const [tool, made] = [await goTool("siderolink-machine"), Namespace.create()];
  if ("skip" in made) skip = made.skip;
  else space = made;
  if ("skip" in tool) skip = tool.skip;
  else program = tool.path;
  if (skip) return;
  // Inside the namespace nothing of ours is to be reached but this address.
  await plane.start("--machine-api", `${space.outer}:0`, "--wireguard", `${space.outer}:0`);
  const { kernelArgs } = await plane.json<{ kernelArgs: string[] }>("join");
  const url = new URL(kernelArgs.find((arg) => arg.startsWith("siderolink.api="))!.slice("siderolink.api=".length));
  api = url.host;
  joinToken = url.searchParams.get("jointoken")!;
});
after(async () => {
  await space?.close();
  await plane.stop();
});

/** What the machine tells; see siderolink-machine/main.go. */
interface Told {
  what: string;
  address: string;
  plane: string;
  publicKey: string;
  endpoints: string[];
  tunnel: string;
  key: number;
  value: string;
  from: string;
  error: string;
  type: string;
}
interface Listed {
  id: string;
  connected: boolean;
  hostname: string;
  stage: string;
  talosVersion: string;
  address: string;
  hardware: string;
}

/** Boots it; WireGuard's sockets are named alike for each, so each has its own folder of them. */
const boot = (uuid: string, ...args: string[]): Inside =>
  space.start(program, ["--api", api, "--uuid", uuid, ...args], { hidden: "/var/run/wireguard" });
const told = async (machine: Inside, what: string): Promise<Told> =>
  JSON.parse(await machine.line((line) => line.startsWith("{") && JSON.parse(line).what === what)) as Told;
const all = (machine: Inside, what: string): Told[] =>
  machine.lines
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Told)
    .filter((one) => one.what === what);
const listed = (uuid: string, fits: (machine: Listed) => boolean, signal: AbortSignal): Promise<Listed> =>
  eventually(
    async () => (await plane.json<Listed[]>("machine", "list")).find((one) => one.id === uuid && fits(one)),
    signal,
  );
const resource = async (type: string, id: string) => {
  const { code, stdout, stderr } = await plane.cli("get", type, id, "-o", "yaml");
  assert.equal(code, 0, stderr);
  return parse(stdout) as { metadata: Record<string, unknown>; spec: Record<string, unknown> };
};
const uniqueToken = (hardware = randomUUID()) =>
  JSON.stringify({ Fingerprint: createHash("sha256").update(hardware).digest("hex"), Token: randomUUID() });

/** Six events of which one is of no type that a plane knows, and ten lines of the log: all of it must show. */
async function isHeard(uuid: string, machine: Inside, signal: AbortSignal): Promise<void> {
  await told(machine, "settled");
  assert.equal(all(machine, "published").length, 6);
  const { spec } = await resource("MachineStatusSnapshots", uuid);
  assert.deepEqual(spec.machineStatus, {
    stage: "RUNNING",
    status: { unmetConditions: [{ name: "services", reason: "etcd is not healthy" }] },
  });
  const lines = await eventually(async () => {
    const { code, stdout, stderr } = await plane.cli("machine", "logs", uuid);
    assert.equal(code, 0, stderr);
    const got = stdout.trim().split("\n").filter(Boolean);
    return got.length >= 10 && got;
  }, signal);
  const messages = lines.map((line) => JSON.parse(line) as { seq: number; msg: string; "talos-level": string });
  assert.deepEqual(
    messages.map(({ seq, msg }) => [seq, msg]),
    Array.from({ length: 10 }, (_, at) => [at, `line ${at} of the machine: ünïcödé\n`]),
  );
  const tail = await plane.cli("machine", "logs", uuid, "--tail", "1");
  assert.equal(tail.stdout.trim(), lines.at(-1));
}

for (const tunnel of [false, true]) {
  const way = tunnel ? "through the gRPC tunnel" : "by UDP";
  test(`a machine without unique token joins ${way}, is given one, and is seen and heard`, async (t) => {
    if (skip) return t.skip(skip);
    const uuid = randomUUID();
    const machine = boot(uuid, "--join-token", joinToken, `--tunnel=${tunnel}`, "--hostname", "till-7");

    await t.test("it is placed", async () => {
      const place = await told(machine, "provisioned");
      assert.match(place.address, /^fdae:41e4:649b:9303:[0-9a-f:]+\/64$/);
      assert.equal(place.plane, planeAddress);
      if (tunnel) assert.deepEqual(place.endpoints, [place.tunnel]);
      else assert.match(place.endpoints[0]!, new RegExp(`^${space.outer.replaceAll(".", "\\.")}:\\d+$`));
    });
    await t.test(
      "the plane writes it a unique token, made of its network cards, and admits it in the same place",
      async () => {
        const { key, value } = await told(machine, "meta");
        assert.equal(key, 16);
        const token = JSON.parse(value) as { Fingerprint: string; Token: string };
        assert.equal(token.Fingerprint, createHash("sha256").update("02:42:ac:11:00:05").digest("hex"));
        await told(machine, "logged");
        const [first, second] = all(machine, "provisioned");
        assert.equal(second?.address, first?.address);
        assert.equal(second?.publicKey, first?.publicKey);
      },
    );
    await t.test("its hardware is in the list, read from its COSI state over the link", async (t) => {
      const machine_ = await listed(uuid, ({ connected, hostname }) => connected && hostname === "till-7", t.signal);
      assert.equal(machine_.stage, "maintenance");
      assert.equal(machine_.talosVersion, "v1.13.0");
      assert.match(machine_.hardware, /^6 cores/);
      assert.equal(`${machine_.address}/64`, all(machine, "provisioned")[0]!.address);
      const { stdout } = await plane.cli("machine", "get", uuid);
      assert.match(stdout, /Interop Works Box 1 IW-0001/);
      assert.match(stdout, /\/dev\/nvme0n1 Interop NVMe 512 GB/);
      for (const { from } of all(machine, "called")) assert.ok(from.startsWith(`[${planeAddress}]:`), from);
    });
    await t.test("its events and its log show", (t) => isHeard(uuid, machine, t.signal));
    await t.test("what is kept of it says how it is linked", async () => {
      const { spec } = await resource("Links", uuid);
      assert.equal(spec.connected, true);
      assert.equal(spec.nodePublicKey, all(machine, "provisioned")[0]!.publicKey);
      if (tunnel) assert.equal(spec.virtualAddrport, all(machine, "provisioned")[0]!.tunnel);
      else assert.match(String(spec.lastEndpoint), new RegExp(`^${space.inner.replaceAll(".", "\\.")}:\\d+$`));
    });
    await t.test("it comes back with its unique token alone, and has its place again", async (t) => {
      await machine.stop();
      const { value } = all(machine, "meta")[0]!;
      const again = boot(uuid, "--unique-token", value, `--tunnel=${tunnel}`, "--hostname", "till-8");
      assert.equal((await told(again, "provisioned")).address, all(machine, "provisioned")[0]!.address);
      await listed(uuid, ({ connected, hostname }) => connected && hostname === "till-8", t.signal);
      assert.equal(all(again, "meta").length, 0);
      await again.stop();
    });
  });
}

test("a machine that has a unique token is admitted at once, and its token is kept", async (t) => {
  if (skip) return t.skip(skip);
  const uuid = randomUUID();
  const machine = boot(uuid, "--join-token", joinToken, "--unique-token", uniqueToken());
  await isHeard(uuid, machine, t.signal);
  assert.equal(all(machine, "provisioned").length, 1);
  await machine.stop();
  await t.test("another machine with its UUID is not let in by itself", async () => {
    const stranger = boot(uuid, "--unique-token", uniqueToken());
    assert.match((await told(stranger, "failed")).error, /PermissionDenied.*unauthorized/);
    assert.equal(await stranger.ended, 1);
  });
});

test("of two machines with one UUID, the second is given a UUID of its own", async (t) => {
  if (skip) return t.skip(skip);
  const uuid = randomUUID();
  const first = boot(uuid, "--join-token", joinToken, "--unique-token", uniqueToken());
  await told(first, "settled");
  await first.stop();
  const second = boot(uuid, "--join-token", joinToken, "--unique-token", uniqueToken(), "--await-token");
  await told(second, "settled");
  const [other, token] = all(second, "meta");
  assert.deepEqual([other?.key, token?.key], [15, 16]);
  assert.notEqual(other?.value, uuid);
  const machine = await listed(other!.value, ({ connected }) => connected, t.signal);
  assert.equal(`${machine.address}/64`, all(second, "provisioned")[0]!.address);
  const known = await listed(uuid, () => true, t.signal);
  assert.equal(`${known.address}/64`, all(first, "provisioned")[0]!.address);
  await second.stop();
});

test("a plane that was killed finds its machine again, and the machine the plane", async (t) => {
  if (skip) return t.skip(skip);
  const uuid = randomUUID();
  const machine = boot(uuid, "--join-token", joinToken, "--unique-token", uniqueToken(), "--hostname", "mast-1");
  await told(machine, "settled");
  await listed(uuid, ({ connected, hostname }) => connected && hostname === "mast-1", t.signal);
  const calls = all(machine, "called").length;
  await plane.kill();
  await plane.start();
  await eventually(async () => all(machine, "called").length > calls, t.signal);
  await listed(uuid, ({ connected }) => connected, t.signal);
  assert.equal(machine.child.exitCode, null, machine.lines.join("\n"));
  await machine.stop();
});

test("join tokens that let nobody in are refused with a reason, and are not in the log of the plane", async (t) => {
  if (skip) return t.skip(skip);
  const make = async (name: string, ...more: string[]) =>
    (await plane.json<{ id: string }>("token", "create", name, ...more)).id;
  const revoked = await make("revoked");
  const used = await make("used");
  const { code, stderr } = await plane.cli("token", "revoke", revoked, "--yes");
  assert.equal(code, 0, stderr);
  const expired = await make("expired", "--ttl", "1s");
  await eventually(
    async () =>
      (await plane.json<{ id: string; state: string }[]>("token", "list")).some(
        ({ id, state }) => id === expired && /expired/i.test(state),
      ),
    t.signal,
  );
  for (const [name, token] of Object.entries({ wrong: "nonsense-token-of-nobody", revoked, expired, missing: "" })) {
    await t.test(name, async () => {
      const uuid = randomUUID();
      const machine = boot(uuid, "--join-token", token, "--unique-token", uniqueToken());
      assert.match((await told(machine, "failed")).error, /^provision: .*PermissionDenied.*unauthorized/);
      assert.equal(await machine.ended, 1);
      assert.ok(!(await plane.json<Listed[]>("machine", "list")).some(({ id }) => id === uuid));
      const log = readFileSync(plane.log, "utf8");
      assert.match(log, new RegExp(`${uuid}.*machine not admitted|machine not admitted.*${uuid}`));
      if (token) assert.ok(!log.includes(token));
    });
  }
  await t.test("a machine that came in with a token stays when it is revoked", async (t) => {
    const uuid = randomUUID();
    const own = uniqueToken();
    const machine = boot(uuid, "--join-token", used, "--unique-token", own);
    await told(machine, "settled");
    await machine.stop();
    assert.equal((await plane.cli("token", "revoke", used, "--yes")).code, 0);
    const again = boot(uuid, "--join-token", used, "--unique-token", own, "--hostname", "stays");
    await listed(uuid, ({ hostname }) => hostname === "stays", t.signal);
    await again.stop();
  });
});

test("a machine that is forgotten is not let in again without a join token", async (t) => {
  if (skip) return t.skip(skip);
  const uuid = randomUUID();
  const own = uniqueToken();
  const machine = boot(uuid, "--join-token", joinToken, "--unique-token", own);
  await told(machine, "settled");
  await machine.stop();
  const forgotten = await plane.cli("machine", "forget", uuid, "--yes");
  assert.equal(forgotten.code, 0, forgotten.stderr);
  const again = boot(uuid, "--unique-token", own);
  assert.match((await told(again, "failed")).error, /PermissionDenied.*unauthorized/);
});
