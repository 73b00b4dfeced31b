// A plane on `--link kernel` in a network namespace of its own: the interface is wireguard-go's or the kernel's, whatever there is; TCP is the
// kernel's. Emulated machines outside join it both ways, are seen and heard, become a cluster, and go on when the plane is killed.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { createSocket } from "node:dgram";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ProvisionService } from "#gen/sidero/link/link_pb.ts";
import { systemClock } from "#lib/clock.ts";
import { parseHostPort } from "#lib/ip.ts";
import { Stack } from "#netstack/stack.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "#wireguard/device.ts";
import { TestPlane, template } from "../e2e/harness.ts";
import { type Inside, Namespace } from "./netns.ts";
import { eventually } from "./until.ts";

const ichor = fileURLToPath(new URL("../../ichor", import.meta.url));
const planeAddress = "fdae:41e4:649b:9303::1";
const cli = new TestPlane("kernel-link");
/** Where wireguard-go has its sockets, over the life of several planes, and apart from those of the host. */
const sockets = mkdtempSync(join(tmpdir(), "ichor-wg-"));
let skip: string | false = false;
let space: Namespace;
let plane: Inside;
let [byUdp, byTunnel] = ["", ""];

const has = (program: string) => {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
};

/** Starts a program where the plane is, with its view of the sockets. */
const inside = (...command: string[]): Inside =>
  space.start("sh", [
    "-c",
    `mkdir -p /var/run/wireguard && mount --bind "$0" /var/run/wireguard && exec "$@"`,
    sockets,
    ...command,
  ]);
const ip = (...args: string[]): string => execFileSync("ip", ["-n", space.name, ...args], { encoding: "utf8" });

/** Starts the plane, or starts it again on its ports; resolves when it is up. */
async function up(): Promise<Inside> {
  let at = ["0", "0", "0"].map((port) => `${space.inner}:${port}`);
  try {
    const kept = JSON.parse(readFileSync(join(cli.data, "plane.json"), "utf8")) as Record<string, string>;
    at = [new URL(kept.api!).host, kept.machineApi!.replace("grpc://", ""), kept.wireguard!];
  } catch {}
  const [listen, machineApi, wireguard] = at;
  const flags = ["--listen", listen!, "--machine-api", machineApi!, "--wireguard", wireguard!];
  const started = inside(ichor, "up", "--link", "kernel", "--data", cli.data, ...flags);
  await started.line((line) => line.startsWith("Sign-in link"));
  return started;
}

async function must(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli.cli(...args);
  assert.equal(code, 0, stderr);
  return stdout;
}

before(async () => {
  const made = Namespace.create();
  if ("skip" in made) skip = made.skip;
  else space = made;
  if (!skip && !has("wg")) skip = "needs the program wg (wireguard-tools)";
  if (!skip && !has("wireguard-go")) skip = "needs the program wireguard-go";
  if (skip) return;
  plane = await up();
  const through = (await must("join", "--kernel-args", "--tunnel")).trim();
  assert.match(through, /grpc_tunnel=true/);
  [byUdp = ""] = await cli.emulate(1, "--seed", "by-udp");
  [byTunnel = ""] = await cli.emulate(1, "--seed", "by-tunnel", "--kernel-args", through);
});
after(async () => {
  await cli.stop();
  await space?.close();
  rmSync(sockets, { recursive: true, force: true });
});

interface Listed {
  readonly id: string;
  readonly connected: boolean;
  readonly hostname: string;
  readonly hardware: string;
  readonly address: string;
}
const listed = (id: string, fits: (machine: Listed) => boolean, signal: AbortSignal): Promise<Listed> =>
  eventually(async () => (await cli.json<Listed[]>("machine", "list")).find((m) => m.id === id && fits(m)), signal);
const sequences = async (id: string): Promise<number[]> =>
  (await must("machine", "logs", id))
    .split("\n")
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as { seq: number }).seq);

/** Waits until the interface, which was made anew, has a session with both machines: what the store says may be of before. */
const reached = (signal: AbortSignal): Promise<boolean> =>
  eventually(async () => {
    const looking = inside("wg", "show", "ichor0", "latest-handshakes");
    await looking.ended;
    return looking.lines.filter((line) => /\t[1-9]\d*$/.test(line)).length >= 2;
  }, signal);

test("machines join by UDP and through the gRPC tunnel, tell what they are, and are heard", async (t) => {
  if (skip) return t.skip(skip);
  for (const id of [byUdp, byTunnel]) {
    const machine = await listed(id, (one) => one.connected && one.hardware !== "" && one.hostname !== "", t.signal);
    assert.match(machine.address, /^fdae:41e4:649b:9303:/);
    await eventually(async () => (await sequences(id)).length > 3, t.signal);
  }
  const endpoint = async (id: string) => /lastEndpoint: (\S+)/i.exec(await must("get", "Links", id, "-o", "yaml"))?.[1];
  assert.match((await endpoint(byUdp))!, new RegExp(`^"?${space.outer.replaceAll(".", "\\.")}:\\d+`));
  assert.match((await endpoint(byTunnel))!, /^"?tunnel:/);
});

test("the interface is as others expect it, and its key is on no command line", async (t) => {
  if (skip) return t.skip(skip);
  const [link] = JSON.parse(ip("-json", "address", "show", "dev", "ichor0")) as {
    mtu: number;
    addr_info: { local: string; prefixlen: number }[];
  }[];
  assert.equal(link?.mtu, 1280);
  assert.deepEqual(
    link?.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    [`${planeAddress}/64`],
  );
  const looking = inside("wg", "show", "ichor0", "dump");
  assert.equal(await looking.ended, 0);
  const [own, ...peers] = looking.lines.map((line) => line.split("\t"));
  assert.equal(peers.length, 2);
  for (const [, , , allowed, , , , keepalive] of peers) {
    assert.match(allowed!, /^fdae:41e4:649b:9303:[0-9a-f:]+\/128$/);
    assert.equal(keepalive, "25");
  }
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    assert.ok(!read(`/proc/${pid}/cmdline`).includes(own![0]!), `process ${pid} shows the key`);
});

test("machines reach neither one another nor what else the host offers", async (t) => {
  if (skip) return t.skip(skip);
  // Whether or not the host is a router.
  execFileSync("ip", ["netns", "exec", space.name, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
  const code = `require("node:net").createServer((s) => s.end()).listen(2222, "::", () => console.log("listening"))`;
  const offer = inside(process.execPath, "-e", code);
  await offer.line((line) => line === "listening");
  const [first, second] = [await admitted(), await admitted()];
  const [one, other] = [new Station(first, second.address), new Station(second, first.address)];
  try {
    other.stack.listen(7, (stream) => stream.end("hello"));
    (await one.stack.connect(planeAddress, 8092, t.signal)).destroy();
    await assert.rejects(one.stack.connect(other.address, 7, t.signal), /unreachable|refused/);
    if (has("nft")) await assert.rejects(one.stack.connect(planeAddress, 2222, t.signal), /refused/);
    // Nothing but the rule keeps them apart: without it they meet.
    ip("-6", "rule", "delete", "iif", "ichor0", "pref", "9303");
    (await one.stack.connect(other.address, 7, t.signal)).destroy();
  } finally {
    one.close();
    other.close();
    await offer.stop();
  }
});

test("a single machine becomes a running cluster, and its new lines arrive", { timeout: 120_000 }, async (t) => {
  if (skip) return t.skip(skip);
  const before = (await sequences(byTunnel)).length;
  const path = join(cli.data, "kiosk.yaml");
  writeFileSync(path, template("kiosk", [byTunnel], []));
  await must("template", "sync", path);
  await must("cluster", "status", "kiosk", "--wait", "--timeout", "90s");
  await eventually(async () => (await sequences(byTunnel)).length > before, t.signal);
});

test("a killed plane goes on, whether wireguard-go ended with it or not", async (t) => {
  if (skip) return t.skip(skip);
  for (const orphan of [false, true]) {
    const before = (await sequences(byUdp)).length;
    const [carrier] = childrenOf(plane.child.pid!);
    const watchers = carrier === undefined ? [] : childrenOf(carrier);
    plane.child.kill("SIGKILL");
    if (orphan) for (const pid of watchers) process.kill(pid, "SIGKILL");
    await plane.ended;
    plane = await up();
    await reached(t.signal);
    for (const id of [byUdp, byTunnel]) await listed(id, ({ connected }) => connected, t.signal);
    await must("cluster", "status", "kiosk", "--wait", "--timeout", "30s");
    assert.ok((await sequences(byUdp)).length >= before);
    if (carrier !== undefined) await eventually(async () => !alive(carrier), t.signal);
    // The rule is there once, however often it started.
    assert.equal(ip("-6", "rule").match(/iif ichor0/g)?.length, 1);
  }
});

test("an interface that somebody took away comes back with its machines", async (t) => {
  if (skip) return t.skip(skip);
  ip("link", "delete", "dev", "ichor0");
  await plane.line((line) => line.includes("WireGuard interface made again"));
  await reached(t.signal);
});

test("a second plane leaves the first alone, and the first leaves nothing behind", async (t) => {
  if (skip) return t.skip(skip);
  const rival = mkdtempSync(join(tmpdir(), "ichor-rival-"));
  const flags = ["listen", "machine-api", "wireguard"].flatMap((flag) => [`--${flag}`, `${space.inner}:0`]);
  try {
    const second = inside(ichor, "up", "--link", "kernel", "--data", rival, ...flags);
    assert.notEqual(await second.ended, 0);
    assert.match(second.lines.join("\n"), /interface ichor0 is that of another plane/);
    assert.match(ip("-6", "rule"), /iif ichor0/);
    await listed(byUdp, ({ connected }) => connected, t.signal);
    await plane.stop();
    assert.doesNotMatch(ip("link", "show"), /ichor0/);
    assert.doesNotMatch(ip("-6", "rule"), /ichor0/);
    assert.deepEqual(readdirSync(sockets), []);
    if (has("nft")) {
      const tables = inside("nft", "list", "tables");
      await tables.ended;
      assert.doesNotMatch(tables.lines.join("\n"), /ichor0/);
    }
  } finally {
    rmSync(rival, { recursive: true, force: true });
  }
});

test("what is missing is told, with what to do", async (t) => {
  if (skip) return t.skip(skip);
  const data = mkdtempSync(join(tmpdir(), "ichor-wants-"));
  const flags = ["listen", "machine-api"].flatMap((flag) => [`--${flag}`, `${space.inner}:0`]);
  const start = ["up", "--link", "kernel", "--data", data, ...flags];
  const refused = async (expected: RegExp, command: string, ...args: string[]) => {
    const attempt = inside(command, ...args);
    assert.notEqual(await attempt.ended, 0);
    assert.match(attempt.lines.join("\n"), expected);
    assert.doesNotMatch(ip("-6", "rule"), /ichor0/);
  };
  const port = ["--wireguard", `${space.inner}:50180`];
  try {
    ip("tuntap", "add", "dev", "ichor0", "mode", "tun");
    await refused(/interface ichor0 that is not ours.*ip link delete/, ichor, ...start, ...port);
    ip("link", "delete", "dev", "ichor0");
    const holder = `require("node:dgram").createSocket("udp4").bind(50180, () => console.log("bound"))`;
    const other = inside(process.execPath, "-e", holder);
    await other.line((line) => line === "bound");
    await refused(
      /cannot listen for WireGuard on udp \S+:50180: .*choose another with --wireguard/,
      ichor,
      ...start,
      ...port,
    );
    await other.stop();
    // Root without its powers: as in a container.
    const bare = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin", ichor];
    await refused(/needs root, or CAP_NET_ADMIN.*--link user/, "setpriv", ...bare, ...start, ...port);
    for (const [missing, expected] of [
      ["wg", /needs the program wg: install the package wireguard-tools/],
      ["wireguard-go", /program wireguard-go is missing: .*modprobe wireguard/],
    ] as const) {
      const path = join(data, `without-${missing}`);
      mkdirSync(path);
      const wanted = [
        "sh",
        "ip",
        "wg",
        "nft",
        "cat",
        "node",
        "uname",
        "dirname",
        "pwd",
        "cmp",
        "find",
        "head",
        "wireguard-go",
      ];
      for (const program of wanted.filter((name) => name !== missing && has(name)))
        symlinkSync(
          execFileSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).trim(),
          join(path, program),
        );
      await refused(expected, "env", `PATH=${path}`, ichor, ...start, ...port);
    }
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
});

/** A place in the link, as a machine gets it. */
async function admitted() {
  const url = new URL(/siderolink\.api=(\S+)/.exec(await must("join", "--kernel-args"))![1]!);
  const privateKey = generatePrivateKey();
  const client = createClient(ProvisionService, createGrpcTransport({ baseUrl: `http://${url.host}` }));
  const answer = await client.provision({
    nodeUuid: randomUUID(),
    nodePublicKey: Buffer.from(publicKeyOf(privateKey)).toString("base64"),
    nodeUniqueToken: JSON.stringify({ Fingerprint: randomBytes(32).toString("hex"), Token: randomUUID() }),
    joinToken: url.searchParams.get("jointoken")!,
    talosVersion: "v1.13.0",
  });
  const address = answer.nodeAddressPrefix.split("/")[0]!;
  return { privateKey, address, planeKey: answer.serverPublicKey, endpoint: answer.serverEndpoint[0]! };
}

/** A machine with WireGuard and TCP of ours that tries what a machine should not: it sends to another, and takes from it, by the plane. */
class Station {
  readonly address: string;
  readonly stack: Stack;
  readonly close: () => void;

  constructor(place: Awaited<ReturnType<typeof admitted>>, other: string) {
    this.address = place.address;
    const { host, port } = parseHostPort(place.endpoint);
    const socket = createSocket("udp4", (datagram) => wireguard.input(datagram, "plane"));
    const wireguard = new WireGuard<string>({
      privateKey: place.privateKey,
      clock: systemClock,
      send: (datagram) => socket.send(datagram, port, host, () => {}),
      receive: (packet) => this.stack.input(packet),
    });
    this.stack = new Stack({
      address: place.address,
      clock: systemClock,
      send: (packet) => void wireguard.output(packet),
    });
    wireguard.addPeer({
      publicKey: Buffer.from(place.planeKey, "base64"),
      endpoint: "plane",
      keepalive: 25,
      allowedIPs: [planeAddress, other],
    });
    this.close = () => {
      this.stack.close();
      wireguard.close();
      socket.close();
    };
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter(
      (name) =>
        /^\d+$/.test(name) &&
        read(`/proc/${name}/stat`)
          .replace(/^.*\) \S /s, "")
          .startsWith(`${pid} `),
    )
    .map(Number);
}

function alive(pid: number): boolean {
  const stat = read(`/proc/${pid}/stat`);
  return stat !== "" && !/\) Z /.test(stat);
}
