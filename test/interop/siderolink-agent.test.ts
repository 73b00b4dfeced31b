// The stock siderolink-agent, a minimal plane on the stock module, with wireguard-go and a TUN device in a network namespace of its own:
// our emulated machines join it as they join ours, so they speak the wire and not only our reading of it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { type Emulator, startEmulator } from "#emulator/emulate.ts";
import { makeHardware } from "#emulator/hardware/hardware.ts";
import { parseHostPort } from "#lib/ip.ts";
import { goTool } from "./build.ts";
import { type Inside, Namespace } from "./netns.ts";
import { eventually } from "./until.ts";

const planeAddress = "fdae:41e4:649b:9303::1";
const joinToken = "a token that lets in";
/** The agent keeps the place of these machines; all others get another with each call. */
const kept = (tunnel: boolean) => ({
  seed: `agent-${tunnel}`,
  uuid: makeHardware(`agent-${tunnel}`, 0).uuid,
  address: tunnel ? "fdae:41e4:649b:9303::a1" : "fdae:41e4:649b:9303::a2",
});
let skip: string | false = false;
let space: Namespace;
let agent: Inside;
let sink: Inside;
let talosctl: Awaited<ReturnType<typeof goTool>>;
const emulators: Emulator[] = [];
const processes: ChildProcess[] = [];

before(async () => {
  const [agentTool, sinkTool] = [await goTool("siderolink-agent"), await goTool("siderolink-sink")];
  talosctl = await goTool("talosctl");
  const made = Namespace.create();
  if ("skip" in made) skip = made.skip;
  else space = made;
  if ("skip" in agentTool) skip = agentTool.skip;
  if ("skip" in sinkTool) skip = sinkTool.skip;
  if (skip || !("path" in agentTool && "path" in sinkTool)) return;
  const args = {
    "sidero-link-wireguard-endpoint": `${space.inner}:51821`,
    "sidero-link-api-endpoint": `${space.inner}:4000`,
    "sidero-link-join-token": joinToken,
    "sidero-link-force-userspace": "true",
    "event-sink-endpoint": `:8080`,
    "log-receiver-endpoint": `:8092`,
  };
  const flags = Object.entries(args).map(([name, value]) => `-${name}=${value}`);
  for (const { uuid, address } of [kept(false), kept(true)]) flags.push(`-predefined-pairs=${uuid}=${address}`);
  agent = space.start(agentTool.path, flags, { hidden: "/var/run/wireguard" });
  // Its log is all that it tells; the device comes up last.
  await agent.line((line) => /wireguard device set up/i.test(line));
  sink = space.start(sinkTool.path, [`-listen=[${planeAddress}]:8090`]);
  await sink.line((line) => line.includes('"listening"'));
});
after(async () => {
  await Promise.all(emulators.map((emulator) => emulator.stop()));
  for (const child of processes) {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
  await space?.close();
});

const apiUrl = (token: string, more = "") => `grpc://${space.inner}:4000?jointoken=${encodeURIComponent(token)}${more}`;

/** What the agent says of machines that it let in: it prints an object after the words. */
interface Node {
  uuid: string;
  unique_token: string;
  talos_version: string;
  node_address: string;
  server_endpoint: string;
}
const objectOf = (line: string) => JSON.parse(line.slice(line.indexOf("{"))) as unknown;
const nodes = (uuid: string) =>
  agent.lines
    .filter((line) => line.includes("got new node"))
    .map((line) => objectOf(line) as Node)
    .filter((node) => node.uuid === uuid);
const addressOf = (node: Node) => node.node_address.replace("/64", "");
const nodeOf = async (uuid: string): Promise<Node> =>
  objectOf(await agent.line((line) => line.includes("got new node") && line.includes(uuid))) as Node;

/** A line of the kernel log, as the stock receiver read it. */
interface Logged {
  src_address: string;
  msg: { msg: string; seq: number; clock: number; facility: string; priority: string; "talos-time": string };
}
const logOf = (address: string) =>
  agent.lines
    .filter((line) => line.includes("kernel log message"))
    .map((line) => objectOf(line) as Logged)
    .filter((line) => line.src_address === address)
    .map(({ msg }) => msg);

/** An event, as the stock sink and Talos' own messages read it. */
interface Told {
  node: string;
  type: string;
  id: string;
  payload: Record<string, unknown>;
}
const eventsOf = (address: string) =>
  sink.lines
    .map((line) => JSON.parse(line) as Told)
    .filter(({ node }) => node !== undefined && parseHostPort(node).host === address);

/** A program inside the namespace, to its end. */
async function inside(command: string, ...args: string[]): Promise<string> {
  const running = space.start(command, args);
  const code = await running.ended;
  assert.equal(code, 0, running.lines.join("\n"));
  return running.lines.join("\n");
}

/** `ichor emulate`, as a person starts it. */
async function emulate(...args: string[]): Promise<string[]> {
  const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", main, "emulate", "--delays", "none", "--json", ...args],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  processes.push(child);
  let text = "";
  for await (const line of createInterface({ input: child.stdout })) {
    text += line;
    if (line.startsWith("}")) break;
  }
  child.stdout.resume();
  return (JSON.parse(text) as { machines: string[] }).machines;
}

for (const tunnel of [false, true]) {
  test(`ichor emulate --api joins the stock agent ${tunnel ? "through the gRPC tunnel" : "by UDP"}`, async (t) => {
    if (skip) return t.skip(skip);
    const machines = await emulate(
      "--count",
      "3",
      "--seed",
      kept(tunnel).seed,
      "--api",
      apiUrl(joinToken, tunnel ? "&grpc_tunnel=true" : ""),
    );
    assert.equal(machines.length, 3);
    for (const uuid of machines) {
      const node = await nodeOf(uuid);
      assert.equal(node.talos_version, "v1.13.9");
      assert.match(node.node_address, /^fdae:41e4:649b:9303:.*\/64$/);
      if (tunnel) assert.match(node.server_endpoint, /^\[fdae:41e4:649b:9304:.*\]:50888$/);
      else assert.equal(node.server_endpoint, `${space.inner}:51821`);
    }

    await t.test("their kernel logs arrive whole and in order", async (t) => {
      for (const uuid of machines) {
        const address = addressOf(await nodeOf(uuid));
        const log = await eventually(async () => {
          const lines = logOf(address);
          return lines.some(({ msg }) => msg.includes("waiting for a configuration")) && lines;
        }, t.signal);
        assert.deepEqual(
          log.map(({ seq }) => seq),
          log.map((_, at) => at),
        );
        assert.match(log[0]!.msg, /^Linux version .*talos/);
        for (const line of log) {
          assert.ok(Number.isInteger(line.clock) && line.clock > 0);
          assert.ok(Math.abs(Date.parse(line["talos-time"]) - Date.now()) < 120_000, line["talos-time"]);
        }
      }
    });
    await t.test("their events are of Talos' own types, in the order of a boot", async (t) => {
      for (const uuid of machines) {
        const address = addressOf(await nodeOf(uuid));
        const events = await eventually(async () => {
          const all = eventsOf(address);
          return all.some(({ payload }) => payload.stage === "MAINTENANCE") && all;
        }, t.signal);
        const ids = events.map(({ id }) => id);
        assert.equal(new Set(ids).size, ids.length);
        assert.deepEqual(ids, ids.toSorted());
        const [first] = events.filter(({ type }) => type.endsWith("machine.SequenceEvent"));
        assert.deepEqual(first?.payload, { sequence: "initialize", action: "START" });
        const stages = events.map(({ payload }) => payload.stage).filter(Boolean);
        assert.deepEqual([stages[0], stages.at(-1)], ["BOOTING", "MAINTENANCE"]);
        assert.ok(events.some(({ payload }) => payload.service === "apid" || payload.service === "machined"));
      }
    });
    const talos = (address: string, ...args: string[]) =>
      inside("path" in talosctl ? talosctl.path : "", ...args, "--insecure", "-n", address);
    const withToken = (uuid: string, token: string) =>
      eventually(async () => nodes(uuid).find(({ unique_token }) => unique_token === token), t.signal);
    await t.test(
      "stock talosctl reads them through the agent's WireGuard, and a token that it writes is sent",
      async (t) => {
        if ("skip" in talosctl) return t.skip(talosctl.skip);
        const [uuid = ""] = machines;
        const address = addressOf(await nodeOf(uuid));
        assert.equal(address, kept(tunnel).address);
        assert.match(await talos(address, "get", "disks"), /\b(sda|nvme0n1|vda)\b/);
        const system = await talos(address, "get", "systeminformation", "-o", "yaml");
        assert.match(system, new RegExp(`uuid: ${uuid}`));
        const token = JSON.stringify({ Fingerprint: "", Token: "of-the-agent" });
        await talos(address, "meta", "write", "16", token);
        assert.equal(addressOf(await withToken(uuid, token)), address);
        // The same place: what was connected stays so.
        const before = logOf(address).length;
        await talos(address, "get", "machinestatus");
        assert.equal(logOf(address).length, before);
      },
    );
    await t.test("a machine that is given another address moves there with all it has", async (t) => {
      if ("skip" in talosctl) return t.skip(talosctl.skip);
      const [, uuid = ""] = machines;
      const old = addressOf(await nodeOf(uuid));
      const token = JSON.stringify({ Fingerprint: "", Token: "that moves" });
      // Its answer is lost where the agent forgets the old address before it comes.
      const writing = space.start(talosctl.path, ["meta", "write", "16", token, "--insecure", "-n", old]);
      const address = addressOf(await withToken(uuid, token));
      await writing.stop();
      assert.notEqual(address, old);
      const status = eventually(() => talos(address, "get", "machinestatus").catch(() => undefined), t.signal);
      assert.match(await status, /maintenance/);
    });
  });
}

test("the sink inside the agent takes every event", async (t) => {
  if (skip) return t.skip(skip);
  const emulator = await startEmulator({
    seed: "agent-sink",
    delays: "none",
    kernelArgs: `siderolink.api=${apiUrl(joinToken)} talos.events.sink=[${planeAddress}]:8080 talos.logging.kernel=tcp://[${planeAddress}]:8092`,
  });
  emulators.push(emulator);
  const [machine] = emulator.machines;
  await eventually(async () => machine!.stage === "maintenance", t.signal);
  const { events } = machine!.boot!;
  assert.ok(events.end > 10);
  await events.drained(t.signal);
});

test("a machine with another join token is refused, says so in its log, and tries again", async (t) => {
  if (skip) return t.skip(skip);
  const emulator = await startEmulator({ seed: "agent-refused", delays: "none", apiUrl: apiUrl("another token") });
  emulators.push(emulator);
  const [machine] = emulator.machines;
  await eventually(async () => {
    const said = machine!.boot?.kernel.from(0).filter(({ message }) => message.includes("invalid join token")) ?? [];
    return said.length >= 2;
  }, t.signal);
  assert.deepEqual(nodes(machine!.uuid), []);
});
