import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { LoadBalancerConfigKind } from "#kinds/cluster/load-balancer-config.ts";
import { LoadBalancerStatusKind } from "#kinds/cluster/load-balancer-status.ts";
import { ManualClock, systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { asDuplex, closed, eventually, listening, makeSite, portOf } from "./fixtures.test.ts";
import type { Listen } from "./listen.ts";
import { startLoadBalancers } from "./load-balancer.ts";

const first = "fdae:41e4:649b:9303::a";
const second = "fdae:41e4:649b:9303::b";
const client = "fdae:41e4:649b:9303::c";

/** The plane's side of the link: ports of its address are loopback sockets. */
function planeSide(t: TestContext) {
  const ports = new Map<number, Server>();
  const listen: Listen = async (port, onConnection) => {
    if (ports.has(port)) throw new IchorError("already_exists", `port ${port} is taken`);
    const server = await listening(
      t,
      createServer({ allowHalfOpen: true }, (socket) =>
        onConnection({ stream: asDuplex(socket), remoteAddress: client }),
      ),
    );
    ports.set(port, server);
    return {
      async close() {
        ports.delete(port);
        server.close();
      },
    };
  };
  const open = (port: number) =>
    connect({ port: portOf(ports.get(port)!), host: "127.0.0.1", allowHalfOpen: true }).on("error", () => {});
  return { ports, listen, open };
}

async function setUp(t: TestContext) {
  const site = makeSite(t);
  const clock = new ManualClock();
  const plane = planeSide(t);
  let dials = 0;
  const dial: typeof site.dial = (...args) => {
    dials++;
    return site.dial(...args);
  };
  const run = () => startLoadBalancers({ ...site, ...plane, dial, clock, log: silent });
  const healthy = async () => (await site.state.get(LoadBalancerStatusKind, "one"))?.spec.healthy;
  return { site, clock, run, healthy, dials: () => dials, ...plane };
}

/** Greets with its name, then sends back what comes, until the other side is done. */
async function backend(t: TestContext, name: string) {
  const sockets = new Set<Socket>();
  const server = await listening(
    t,
    createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => {}).once("close", () => sockets.delete(socket));
      socket.write(`${name}:`);
      socket.pipe(socket);
    }),
  );
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  return { server, sockets };
}

async function talk(socket: Socket, words: string): Promise<string> {
  socket.on("error", () => {});
  socket.end(words);
  return String(await buffer(socket).catch(() => "broken"));
}

test("bytes pass both ways, each direction ends by itself", async (t) => {
  const { site, run, healthy, open } = await setUp(t);
  const { server } = await backend(t, "first");
  site.route(first, 6443, server);
  await site.state.create(LoadBalancerConfigKind, "one", { bindPort: "10001", endpoints: [`[${first}]:6443`] });
  await run();
  await eventually(async () => (await healthy()) === true, "the endpoint is found to answer");
  const sent = "x".repeat(500_000);
  assert.equal(await talk(open(10_001), sent), `first:${sent}`);
});

test("connections spread over what answers, and move when it does not", async (t) => {
  const { site, run, healthy, open, clock, dials } = await setUp(t);
  const one = await backend(t, "first");
  const two = await backend(t, "second");
  site.route(first, 6443, one.server);
  site.route(second, 6443, two.server);
  const endpoints = [`[${first}]:6443`, `[${second}]:6443`, "nonsense"];
  await site.state.create(LoadBalancerConfigKind, "one", { bindPort: "10001", endpoints });
  await run();
  await eventually(async () => (await healthy()) === true && dials() === 2, "both are looked at once");
  const held = [open(10_001), open(10_001)];
  const said = await Promise.all(held.map(async (socket) => String((await once(socket, "data"))[0])));
  assert.deepEqual(said.sort(), ["first:", "second:"]);
  clock.advance(3_600_000);
  assert.equal(dials(), 4, "what answers is not polled");

  site.route(first, 6443, undefined);
  for (const socket of one.sockets) socket.resetAndDestroy();
  await eventually(() => dials() === 5, "a broken connection makes the balancer look");
  assert.equal(await talk(open(10_001), "a"), "second:a");
  assert.equal(await healthy(), true);
  site.route(second, 6443, undefined);
  for (const socket of two.sockets) socket.resetAndDestroy();
  await eventually(async () => (await healthy()) === false, "none answers");
  assert.equal(await talk(open(10_001), "a"), "broken");

  site.route(first, 6443, one.server);
  await eventually(async () => {
    clock.advance(1000);
    return (await healthy()) === true;
  }, "it is found again");
  assert.equal(await talk(open(10_001), "b"), "first:b");
});

test("ports follow the configuration; what is gone takes its status along", async (t) => {
  const { site, run, healthy, open, ports, clock } = await setUp(t);
  const { server } = await backend(t, "first");
  site.route(first, 6443, server);
  const endpoints = [`[${first}]:6443`];
  await site.state.as("load-balancer").create(LoadBalancerStatusKind, "old", { healthy: true });
  await site.state.create(LoadBalancerConfigKind, "one", { bindPort: "10001", endpoints });
  await run();
  assert.equal(await site.state.get(LoadBalancerStatusKind, "old"), undefined);
  const held = open(10_001).on("error", () => {});
  await once(held, "data");
  const gone = closed(held.resume());
  await site.state.update(LoadBalancerConfigKind, "one", ({ spec }) => {
    spec.bindPort = "10002";
  });
  await eventually(() => ports.has(10_002) && !ports.has(10_001), "the port changes");
  await site.state.create(LoadBalancerConfigKind, "two", { bindPort: "10002", endpoints });
  await site.state.destroy(LoadBalancerConfigKind.key("one"));
  await eventually(async () => (await healthy()) === undefined, "its status goes");
  await gone;
  await eventually(() => {
    clock.advance(1000);
    return ports.has(10_002);
  }, "the port that was taken is tried again");
  assert.equal(await talk(open(10_002), "c"), "first:c");
});

test("a start of the plane does not make a healthy cluster look ill", async (t) => {
  const { site, run } = await setUp(t);
  const { server } = await backend(t, "first");
  site.route(first, 6443, server);
  await site.state.as("load-balancer").create(LoadBalancerStatusKind, "one", { healthy: true });
  const seen: boolean[] = [];
  const watch = async () => {
    for await (const event of site.state.watch(LoadBalancerStatusKind, { from: "now", signal: site.signal }))
      if (event.kind === "updated") seen.push(event.resource.spec.healthy);
  };
  void watch();
  const endpoints = [`[${second}]:6443`, `[${first}]:6443`];
  await site.state.create(LoadBalancerConfigKind, "one", { bindPort: "10001", endpoints });
  const running = await run();
  await site.state.create(LoadBalancerConfigKind, "none", { bindPort: "10002" });
  await eventually(async () => {
    return (await site.state.get(LoadBalancerStatusKind, "none"))?.spec.healthy === false;
  }, "a cluster without endpoints is told as such");
  await running.close();
  assert.deepEqual(seen, []);
});

test("a machine that loses its link counts as gone until it answers", async (t) => {
  const { site, run, healthy } = await setUp(t);
  const { server } = await backend(t, "first");
  site.route(first, 6443, server);
  await site.addMachine("m1", { cluster: "one", managementAddress: first });
  await site.state.create(LoadBalancerConfigKind, "one", { bindPort: "10001", endpoints: [`[${first}]:6443`] });
  await run();
  await eventually(async () => (await healthy()) === true, "it answers");
  site.route(first, 6443, undefined);
  await site.addMachine("m1", { connected: false });
  await eventually(async () => (await healthy()) === false, "the link tells");
});

test("with the machine's own clock nothing waits for long", async (t) => {
  const { site, listen, healthy, ports } = await setUp(t);
  const { server } = await backend(t, "first");
  await site.state.create(LoadBalancerConfigKind, "one", { bindPort: "10001", endpoints: [`[${first}]:6443`] });
  await startLoadBalancers({ ...site, listen, clock: systemClock, log: silent });
  await eventually(async () => (await healthy()) === false, "nothing answers yet");
  site.route(first, 6443, server);
  await eventually(async () => (await healthy()) === true, "found within the second");
  assert.equal(ports.size, 1);
});
