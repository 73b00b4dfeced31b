import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import type { Clock } from "#lib/clock.ts";
import { parseIP } from "#lib/ip.ts";
import { Stack } from "#netstack/stack.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "#wireguard/device.ts";
import { goTool } from "./build.ts";
import { type Inside, Namespace } from "./netns.ts";
import { exchange, expected, type Tally } from "./tcp-peer.ts";
import { pause, until } from "./until.ts";

// wireguard-go and the network stack of Linux in a namespace of their own, on a TUN device, against ours over UDP.

const ourAddress = "fd00:ffff::1";
const theirAddress = "fd00:ffff::2";
const size = 10_000_000;
const mtu = 1280;

let skip: string | false = false;
let space: Namespace;
let wireguardGo: Inside;
const device = `w${process.pid}`;
const theirKey = generatePrivateKey();
const theirPort = 51_820;
let ours: OurEnd;

before(async () => {
  const tool = await goTool("wireguard-go");
  const made = Namespace.create();
  if (!("skip" in made)) space = made;
  if ("skip" in made || "skip" in tool) {
    skip = "skip" in made ? made.skip : "skip" in tool && tool.skip;
    return;
  }
  wireguardGo = space.start(tool.path, ["-f", device]);
  if (!(await uapiAnswers())) {
    skip = `wireguard-go does not run here: ${wireguardGo.lines.at(-1) ?? "it ended without a word"}`;
    return;
  }
  space.ip("address", "add", `${theirAddress}/64`, "dev", device, "nodad");
  space.ip("link", "set", device, "mtu", String(mtu), "up");
});
after(async () => {
  await ours?.close();
  await space?.close();
});

/** Our WireGuard and our TCP on a UDP socket of our side of the wire. `leap` moves our time on. */
class OurEnd {
  readonly key = generatePrivateKey();
  readonly device: WireGuard<{ host: string; port: number }>;
  readonly stack: Stack;
  readonly endpoints: number[] = [];
  handshakes = 0;
  /** Takes a packet from the tunnel before the stack does. */
  tap: ((packet: Uint8Array) => void) | undefined;
  #socket: Socket;
  #leapt = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const clock: Clock = {
      now: () => Date.now() + this.#leapt,
      monotonic: () => performance.now() + this.#leapt,
      after: (delay, fn) => {
        const timer = setTimeout(fn, delay);
        return { cancel: () => clearTimeout(timer) };
      },
    };
    this.device = new WireGuard({
      privateKey: this.key,
      clock,
      mtu,
      send: (datagram, { host, port }) => this.#socket.send(datagram, port, host),
      receive: (packet) => {
        this.tap?.(packet);
        this.stack.input(packet);
      },
      onHandshake: () => this.handshakes++,
      onEndpoint: ({ endpoint }) => this.endpoints.push(endpoint?.port ?? 0),
    });
    this.stack = new Stack({ address: ourAddress, mtu, clock, send: (packet) => void this.device.output(packet) });
    this.#listen();
  }

  static async open(): Promise<OurEnd> {
    return new OurEnd(await bind());
  }

  get port(): number {
    return this.#socket.address().port;
  }

  leap(ms: number): void {
    this.#leapt += ms;
  }

  /** Goes on from another port. */
  async move(): Promise<void> {
    const before = this.#socket;
    this.#socket = await bind();
    this.#listen();
    before.close();
  }

  async close(): Promise<void> {
    this.stack.close();
    this.device.close();
    this.#socket.close();
  }

  #listen(): void {
    this.#socket.on("message", (datagram, { address, port }) => this.device.input(datagram, { host: address, port }));
  }
}

async function bind(): Promise<Socket> {
  const socket = createSocket({ type: "udp4", recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  await new Promise<void>((resolve) => socket.bind(0, space.outer, resolve));
  return socket;
}

/** Speaks to wireguard-go as `wg` does (its cross-platform userspace configuration protocol). */
async function uapi(request: string): Promise<string> {
  const socket = connect(`/var/run/wireguard/${device}.sock`);
  socket.write(`${request}\n`);
  let answer = "";
  for await (const chunk of socket) {
    answer += String(chunk);
    if (answer.endsWith("\n\n")) break;
  }
  assert.match(answer, /errno=0\n\n$/);
  return answer;
}

async function uapiAnswers(): Promise<boolean> {
  while (wireguardGo.child.exitCode === null) {
    try {
      await uapi("get=1\n");
      return true;
    } catch {
      await Promise.race([pause(), wireguardGo.ended]);
    }
  }
  return false;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** Two ends that know each other; each knows the endpoint of the other only when told to. */
async function meet(options: { theyKnow: boolean; weKnow: boolean; presharedKey?: Uint8Array }): Promise<OurEnd> {
  await ours?.close();
  const end = await OurEnd.open();
  ours = end;
  const secret = options.presharedKey;
  end.device.addPeer({
    publicKey: publicKeyOf(theirKey),
    allowedIPs: [`${theirAddress}/128`],
    ...(secret ? { presharedKey: secret } : {}),
    ...(options.weKnow ? { endpoint: { host: space.inner, port: theirPort } } : {}),
  });
  await uapi(
    [
      "set=1",
      `private_key=${hex(theirKey)}`,
      `listen_port=${theirPort}`,
      "replace_peers=true",
      `public_key=${hex(end.device.publicKey)}`,
      ...(secret ? [`preshared_key=${hex(secret)}`] : []),
      ...(options.theyKnow ? [`endpoint=${space.outer}:${end.port}`] : []),
      "replace_allowed_ips=true",
      `allowed_ip=${ourAddress}/128`,
      "",
    ].join("\n"),
  );
  return end;
}

/** Linux asks us for echoes. Throws when one does not come back. */
async function pingUs(bytes: number, count = 3): Promise<void> {
  const tool = await goTool("ping");
  assert.ok("path" in tool, JSON.stringify(tool));
  const ping = space.start(tool.path, [ourAddress, String(count), String(bytes)]);
  assert.equal(await ping.ended, 0, ping.lines.join("\n"));
}

/** We ask Linux for an echo; resolves when it came back as it went. */
async function pingThem(end: OurEnd, bytes: number): Promise<void> {
  const packet = Buffer.alloc(48 + bytes, 7);
  packet.writeUInt32BE(0x60000000, 0);
  packet.writeUInt16BE(8 + bytes, 4);
  packet[6] = 58;
  packet[7] = 64;
  packet.set(parseIP(ourAddress), 8);
  packet.set(parseIP(theirAddress), 24);
  packet[40] = 128;
  packet[41] = 0;
  packet.writeUInt16BE(0, 42);
  packet.writeUInt32BE(0x1234_0001, 44);
  let sum = 8 + bytes + 58;
  for (let at = 8; at < packet.length; at += 2)
    sum += at + 1 < packet.length ? packet.readUInt16BE(at) : packet[at]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet.writeUInt16BE(~sum & 0xffff, 42);
  const answer = new Promise<void>((resolve) => {
    end.tap = (received) => {
      if (received[40] === 129 && Buffer.compare(received.subarray(44), packet.subarray(44)) === 0) resolve();
    };
  });
  end.device.output(packet);
  await answer;
  end.tap = undefined;
}

const tallyOf = async (peer: Inside): Promise<Tally> =>
  JSON.parse(await peer.line((line) => line.startsWith("{"))) as Tally;
const peerProgram = new URL("tcp-peer.ts", import.meta.url).pathname;
const peer = (...args: (string | number)[]) =>
  space.start(process.execPath, ["--disable-warning=ExperimentalWarning", peerProgram, ...args.map(String)]);

/** 10 MB each way at once over a connection that Linux opens to us. */
async function theyConnect(end: OurEnd): Promise<void> {
  const arrived = new Promise<Tally>((resolve, reject) => {
    const listener = end.stack.listen(8090, (stream) => {
      listener.close();
      exchange(stream, 1, size).then(resolve, reject);
    });
  });
  const linux = peer("connect", ourAddress, 8090, 2, size);
  assert.deepEqual(await arrived, expected(2, size));
  assert.deepEqual(await tallyOf(linux), expected(1, size));
  assert.equal(await linux.ended, 0);
}

/** 10 MB each way at once over a connection that we open to Linux. */
async function weConnect(end: OurEnd): Promise<void> {
  const linux = peer("listen", theirAddress, 50_000, 4, size);
  await linux.line((line) => line === "listening");
  const stream = await end.stack.connect(theirAddress, 50_000, AbortSignal.timeout(20_000));
  assert.deepEqual(await exchange(stream, 3, size), expected(4, size));
  assert.deepEqual(await tallyOf(linux), expected(3, size));
  await linux.stop();
}

test("wireguard-go begins: echoes, and 10 MB each way over TCP that either side opens", async (t) => {
  if (skip) return t.skip(skip);
  const end = await meet({ theyKnow: true, weKnow: false });
  await pingUs(56);
  assert.equal(end.handshakes, 1);
  await pingUs(mtu - 48);
  await theyConnect(end);
  await weConnect(end);
  assert.equal(end.handshakes, 1);
});

test("we begin: echoes, and 10 MB each way over TCP that either side opens", async (t) => {
  if (skip) return t.skip(skip);
  const end = await meet({ theyKnow: false, weKnow: true });
  await pingThem(end, 56);
  assert.equal(end.handshakes, 1);
  await pingThem(end, mtu - 48);
  await pingUs(1);
  await weConnect(end);
  await theyConnect(end);
  assert.equal(end.handshakes, 1);
});

test("a preshared key holds, and without the same key nothing comes through", async (t) => {
  if (skip) return t.skip(skip);
  const end = await meet({ theyKnow: false, weKnow: true, presharedKey: generatePrivateKey() });
  await pingThem(end, 100);
  await uapi(`set=1\npublic_key=${hex(end.device.publicKey)}\npreshared_key=${hex(generatePrivateKey())}\n`);
  end.leap(200_000);
  const stop = AbortSignal.timeout(1_500);
  await assert.rejects(end.stack.connect(theirAddress, 50_000, stop));
  assert.equal(end.handshakes, 1);
});

test("keys are renewed under way: after 120 s with the old ones still good, after 180 s without", async (t) => {
  if (skip) return t.skip(skip);
  const end = await meet({ theyKnow: false, weKnow: true });
  await pingThem(end, 10);
  // wireguard-go takes one first message in 20 ms: by the time that Linux had its echoes it takes another.
  await pingUs(10, 100);
  end.leap(121_000);
  // The old session carries this one, and begins the next.
  await pingThem(end, 11);
  await until(() => end.handshakes === 2);
  await pingThem(end, 12);
  await pingUs(10, 100);
  end.leap(181_000);
  await pingThem(end, 13);
  assert.equal(end.handshakes, 3);
  await weConnect(end);
});

test("either side may move to another port", async (t) => {
  if (skip) return t.skip(skip);
  const end = await meet({ theyKnow: false, weKnow: true });
  await pingThem(end, 10);
  await end.move();
  await pingThem(end, 11);
  const told = await uapi("get=1\n");
  assert.match(told, new RegExp(`endpoint=${space.outer}:${end.port}\n`));
  await uapi(`set=1\nlisten_port=${theirPort + 1}\n`);
  await pingUs(20);
  assert.deepEqual(end.endpoints.at(-1), theirPort + 1);
  await pingThem(end, 12);
});
