import { createSocket } from "node:dgram";
import { once } from "node:events";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { systemClock } from "#lib/clock.ts";
import { Stack, type TcpStream } from "#netstack/stack.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "#wireguard/device.ts";
import { Session } from "#wireguard/session.ts";
import { wireguardGoRate } from "./peers/wireguard-go.ts";

const warmUp = 1_000;
const measured = 3_000;
const port = 80;
const addresses = { plane: "fd00::1", machine: "fd00::2" } as const;
type Side = keyof typeof addresses;
const other = { plane: "machine", machine: "plane" } as const;
type Keys = Record<Side, Uint8Array>;

interface Work {
  readonly bench: "link";
  readonly keys: Keys;
  readonly plane: number;
}

/** TCP over IPv6 inside WireGuard in user space: one stream, and what its parts can do alone. */
export async function run(): Promise<void> {
  const keys = { plane: generatePrivateKey(), machine: generatePrivateKey() };
  const rows: Record<string, { measured: string; "ratio to wireguard-go": string; wanted: string }> = {};
  const peer = await wireguardGoRate(warmUp, measured);
  const row = (name: string, value: number, wanted = "", isRate = true) => {
    const ratio = isRate && typeof peer === "number" ? (value / peer).toFixed(2) : "";
    rows[name] = { measured: Math.round(value).toLocaleString("en"), "ratio to wireguard-go": ratio, wanted };
  };
  if (typeof peer === "number") row("one stream of the kernel through two wireguard-go, Mbit/s", peer);
  else console.log(`no ratio to wireguard-go: ${peer.skip}`);
  row("one stream, ends in two threads, UDP between, Mbit/s", await twoThreads(keys), "300");
  row("one stream, both ends in one thread, Mbit/s", await oneThread(keys));
  row("one stream without WireGuard, both ends in one thread, Mbit/s", await stacksAlone());
  const { sealed, opened } = transport();
  row("packets of 1,280 bytes sealed a second", sealed, "", false);
  row("packets of 1,280 bytes opened a second", opened, "", false);
  console.table(rows);
}

/** Each end has a core: what a plane does with one. */
async function twoThreads(keys: Keys): Promise<number> {
  const end = await udpEnd("plane", keys);
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { bench: "link", keys, plane: end.port } satisfies Work,
  });
  try {
    const [far] = (await once(worker, "message")) as [number];
    end.talkTo(far);
    return await drink(await end.stack.connect(addresses.machine, port));
  } finally {
    await worker.terminate();
    end.close();
  }
}

/** The far end, in its thread: pours bytes at whoever connects. */
async function farEnd({ keys, plane }: Work): Promise<void> {
  const end = await udpEnd("machine", keys);
  end.talkTo(plane);
  end.stack.listen(port, pour);
  parentPort?.postMessage(end.port);
}

async function oneThread(keys: Keys): Promise<number> {
  // Turns of the event loop stand for the network.
  const plane = ender("plane", keys, (datagram) => queue.push(() => machine.device.input(datagram, "plane")));
  const machine = ender("machine", keys, (datagram) => queue.push(() => plane.device.input(datagram, "machine")));
  const queue = wire();
  machine.stack.listen(port, pour);
  const rate = await drink(await plane.stack.connect(addresses.machine, port));
  for (const end of [plane, machine]) {
    end.stack.close();
    end.device.close();
  }
  return rate;
}

async function stacksAlone(): Promise<number> {
  const queue = wire();
  const plane: Stack = new Stack({
    address: addresses.plane,
    clock: systemClock,
    send: (packet) => queue.push(() => machine.input(packet)),
  });
  const machine: Stack = new Stack({
    address: addresses.machine,
    clock: systemClock,
    send: (packet) => queue.push(() => plane.input(packet)),
  });
  machine.listen(port, pour);
  const rate = await drink(await plane.connect(addresses.machine, port));
  plane.close();
  machine.close();
  return rate;
}

function wire(): { push(deliver: () => void): void } {
  let waiting: (() => void)[] = [];
  return {
    push(deliver) {
      if (waiting.push(deliver) > 1) return;
      setImmediate(() => {
        const batch = waiting;
        waiting = [];
        for (const one of batch) one();
      });
    },
  };
}

/** A device and a stack that know one peer. */
function ender(side: Side, keys: Keys, send: (datagram: Uint8Array) => void) {
  const device: WireGuard<string> = new WireGuard<string>({
    privateKey: keys[side],
    clock: systemClock,
    send,
    receive: (packet) => stack.input(packet),
  });
  const stack = new Stack({
    address: addresses[side],
    clock: systemClock,
    send: (packet) => void device.output(packet),
  });
  const peer = other[side];
  device.addPeer({ publicKey: publicKeyOf(keys[peer]), endpoint: peer, allowedIPs: [addresses[peer]] });
  return { device, stack };
}

async function udpEnd(side: Side, keys: Keys) {
  const socket = createSocket({
    type: "udp4",
    recvBufferSize: 4 << 20,
    sendBufferSize: 4 << 20,
    // The address is one: nothing to look up, and no turn of the event loop for it.
    lookup: (host, _options, done) => done(null, host, 4),
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  let to = 0;
  const { device, stack } = ender(side, keys, (datagram) => socket.send(datagram, to, "127.0.0.1", ignore));
  socket.on("message", (datagram) => device.input(datagram, other[side]));
  return {
    stack,
    port: socket.address().port,
    talkTo(far: number) {
      to = far;
    },
    close() {
      stack.close();
      device.close();
      socket.close();
    },
  };
}

const ignore = () => {};

function pour(stream: TcpStream): void {
  const bytes = Buffer.alloc(65_536, 7);
  const write = () => {
    while (!stream.destroyed && stream.write(bytes)) {}
  };
  stream.on("drain", write);
  stream.on("error", ignore);
  write();
}

/** Mbit/s of what arrives after warming up. */
async function drink(stream: TcpStream): Promise<number> {
  let bytes = 0;
  stream.on("error", ignore);
  stream.on("data", (chunk) => {
    bytes += chunk.length;
  });
  await new Promise((resolve) => setTimeout(resolve, warmUp));
  const before = bytes;
  const started = performance.now();
  await new Promise((resolve) => setTimeout(resolve, measured));
  const rate = ((bytes - before) * 8) / (performance.now() - started) / 1_000;
  stream.destroy();
  return rate;
}

/** How many packets a second a session seals and opens. */
function transport(): { sealed: number; opened: number } {
  const keys = [generatePrivateKey(), generatePrivateKey()] as const;
  const near = new Session({ send: keys[0], receive: keys[1] }, 1, 2, true, 0);
  const far = new Session({ send: keys[1], receive: keys[0] }, 2, 1, false, 0);
  const packet = Buffer.alloc(1280, 7);
  const count = 100_000;
  const datagrams: Uint8Array[] = [];
  for (let i = 0; i < 20_000; i++) far.open(near.seal(packet, 1280));
  let started = performance.now();
  for (let i = 0; i < count; i++) datagrams.push(near.seal(packet, 1280));
  const sealed = (count * 1_000) / (performance.now() - started);
  started = performance.now();
  for (const datagram of datagrams) far.open(datagram);
  return { sealed, opened: (count * 1_000) / (performance.now() - started) };
}

if (!isMainThread && (workerData as Partial<Work> | null)?.bench === "link") await farEnd(workerData as Work);
