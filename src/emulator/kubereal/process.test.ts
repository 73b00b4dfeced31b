import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemClock } from "#lib/clock.ts";
import { silent } from "#lib/log.ts";
import { keepRunning, lastLines } from "./process.ts";

// The program is one that holds a connection for as long as it lives.
const folder = mkdtempSync(join(tmpdir(), "ichor-process-"));
let server: Server;
let args: string[];
before(async () => {
  server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  args = [
    "-e",
    `console.log("says", "this"); require("net").connect(${port}, "127.0.0.1").on("close", () => process.exit(3))`,
  ];
});
after(() => {
  server.close();
  rmSync(folder, { recursive: true });
});
const daemon = (signal: AbortSignal) => ({
  name: "program",
  path: process.execPath,
  args: async () => args,
  logFile: join(folder, "log"),
  clock: systemClock,
  log: silent,
  signal,
});
const connection = async () => {
  const [socket] = (await once(server, "connection")) as [Socket];
  socket.on("error", () => {}).resume();
  return socket;
};

test("a program that ends is started again; told to stop, it is gone", async () => {
  const stop = new AbortController();
  const running = keepRunning(daemon(stop.signal));
  const first = await connection();
  const again = connection();
  first.destroy();
  const second = await again;
  assert.equal(lastLines(join(folder, "log")), "says this");
  const closed = once(second, "close");
  stop.abort(new Error("enough"));
  await Promise.all([closed, running]);
});

test("the program ends with whoever started it, killed as that may be", async () => {
  const module = new URL("./process.ts", import.meta.url).href;
  const script = `
    const { keepRunning } = await import(${JSON.stringify(module)});
    const { systemClock } = await import("#lib/clock.ts");
    const quiet = () => {};
    setInterval(quiet, 2 ** 30);
    await keepRunning({ name: "program", path: process.execPath, args: async () => ${JSON.stringify(args)},
      logFile: ${JSON.stringify(join(folder, "other"))}, clock: systemClock, log: { warn: quiet }, signal: new AbortController().signal });`;
  const arrived = connection();
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    cwd: new URL("../../..", import.meta.url),
    stdio: "ignore",
  });
  const socket = await arrived;
  const closed = once(socket, "close");
  parent.kill("SIGKILL");
  await closed;
});

test("a program that is not there is tried again until told to stop", async () => {
  const stop = new AbortController();
  let tries = 0;
  const twice = Promise.withResolvers<void>();
  const missing = {
    ...daemon(stop.signal),
    path: join(folder, "none"),
    args: async () => {
      if (++tries === 2) twice.resolve();
      return [];
    },
  };
  const running = keepRunning(missing);
  await twice.promise;
  stop.abort(new Error("enough"));
  await running;
});
