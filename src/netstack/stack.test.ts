import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { TcpStream } from "./stack.ts";
import { Pair } from "./testing.ts";

/** An open connection: `client` at fd00::a, `server` at fd00::b. */
async function connected(options: ConstructorParameters<typeof Pair>[0] = {}) {
  const net = new Pair(options);
  let server: TcpStream | undefined;
  net.b.listen(80, (stream) => {
    server = stream;
  });
  let client: TcpStream | undefined;
  net.a.connect("fd00:0::b", 80).then((stream) => {
    client = stream;
  });
  await net.until(() => client !== undefined && server !== undefined);
  assert.ok(client && server);
  return { net, client, server, clientEvents: watch(client), serverEvents: watch(server) };
}

/** Names of what a stream told, errors as their message. */
function watch(stream: TcpStream): string[] {
  const events: string[] = [];
  for (const name of ["end", "finish", "close"]) stream.on(name, () => events.push(name));
  stream.on("error", (error: Error & { code?: string }) => events.push(`${error.code}: ${error.message}`));
  return events;
}

/** What a connect came to, as words. */
function outcome(connecting: Promise<TcpStream>): { is: string } {
  const result = { is: "" };
  connecting.then(
    () => {
      result.is = "connected";
    },
    (error: Error & { code?: string }) => {
      result.is = `${error.code}: ${error.message}`;
    },
  );
  return result;
}

test("both ends know who they talk to", async () => {
  const { net, client, server } = await connected();
  assert.equal(client.remoteAddress, "fd00::b");
  assert.equal(client.remotePort, 80);
  assert.equal(client.localAddress, "fd00::a");
  assert.equal(server.remoteAddress, "fd00::a");
  assert.equal(server.remotePort, client.localPort);
  assert.equal(server.localPort, 80);
  assert.equal(client.setNoDelay().setKeepAlive().setTimeout().ref().unref(), client);
  net.close();
});

test("when one side ends, the other ends too, unless it is allowed to stay half open", async () => {
  const { net, client, server, clientEvents, serverEvents } = await connected();
  server.resume();
  client.resume();
  client.end("bye");
  await net.until(() => clientEvents.includes("close") && serverEvents.includes("close"));
  assert.deepEqual([clientEvents.toSorted(), serverEvents.toSorted()], Array(2).fill(["close", "end", "finish"]));
  net.close();

  const half = await connected();
  half.server.allowHalfOpen = true;
  let heard = "";
  half.client.on("data", (chunk) => {
    heard += chunk;
  });
  half.client.end("question");
  half.server.resume();
  await half.net.until(() => half.serverEvents.includes("end"));
  await half.net.pass(300_000);
  half.server.end("an answer, much later");
  await half.net.until(() => half.clientEvents.includes("close"));
  assert.equal(heard, "an answer, much later");
  half.net.close();
});

test("destroy before end resets the connection", async () => {
  const { net, client, server, clientEvents, serverEvents } = await connected();
  client.write("x");
  server.resume();
  client.destroy();
  await net.until(() => serverEvents.includes("close"));
  assert.match(serverEvents[0] ?? "", /^unavailable: connection to \[fd00::a\]:\d+ reset by the peer$/);
  assert.deepEqual(clientEvents, ["close"]);
  assert.equal(net.a.size + net.b.size, 0);
  await net.pass(100);
  assert.equal(net.clock.pending, 0);
});

test("destroy after end still delivers what was written", async () => {
  const { net, client, server, serverEvents } = await connected();
  let bytes = 0;
  server.on("data", (chunk) => {
    bytes += chunk.length;
  });
  client.end(Buffer.alloc(300_000), () => client.destroy());
  await net.until(() => serverEvents.includes("end"));
  assert.equal(bytes, 300_000);
  await net.until(() => net.a.size + net.b.size === 0);
  await net.pass(100);
  assert.equal(net.clock.pending, 0);
});

test("what is sent to a stream that was destroyed is refused", async () => {
  const { net, client, server, serverEvents } = await connected();
  client.end();
  client.destroy();
  server.allowHalfOpen = true;
  server.resume();
  await net.until(() => serverEvents.includes("end"));
  server.write("to nobody");
  await net.until(() => serverEvents.includes("close"));
  assert.match(serverEvents[1] ?? "", /^unavailable: .* reset by the peer/);
  assert.equal(net.a.size + net.b.size, 0);
});

test("a stream whose peer never closes is given up a minute after it was destroyed", async () => {
  const { net, client, server, serverEvents } = await connected();
  server.allowHalfOpen = true;
  server.resume();
  client.end();
  client.destroy();
  await net.pass(59_000);
  assert.equal(net.a.size, 1);
  await net.until(() => serverEvents.includes("close"), 2_000);
  assert.equal(net.a.size, 0);
});

test("a stream that nobody watches fails without taking the process along", async () => {
  const net = new Pair();
  let quiet: TcpStream | undefined;
  net.b.listen(80, () => {});
  net.a.connect("fd00::b", 80).then((stream) => {
    quiet = stream;
  });
  await net.until(() => quiet !== undefined);
  net.a.close();
  await net.until(() => quiet?.closed === true);
  assert.match(String(quiet?.errored), /the network was closed/);
});

test("nobody listens: refused; nobody answers: timed out; an abort is what it says", async () => {
  const net = new Pair();
  const refused = outcome(net.a.connect("fd00::b", 81));
  await net.until(() => refused.is !== "");
  assert.equal(refused.is, "unavailable: connection to [fd00::b]:81 refused");
  net.cut();
  const silent = outcome(net.a.connect("fd00::b", 82));
  await net.pass(29_000);
  assert.equal(silent.is, "");
  await net.pass(1_100);
  assert.equal(silent.is, "unavailable: connection to [fd00::b]:82 timed out: no answer");
  const stop = new AbortController();
  const aborted = outcome(net.a.connect("fd00::b", 82, stop.signal));
  await net.pass(5_000);
  stop.abort(new Error("changed my mind"));
  await net.until(() => aborted.is !== "");
  assert.equal(aborted.is, "undefined: changed my mind");
  await assert.rejects(net.a.connect("fd00::b", 82, stop.signal), /changed my mind/);
  await assert.rejects(net.a.connect("10.0.0.1", 82), { code: "invalid_argument" });
  assert.equal(net.a.size, 0);
  await net.pass(100);
  assert.equal(net.clock.pending, 0);
});

test("a port is listened to once, and is free after close", async () => {
  const net = new Pair();
  const listener = net.b.listen(80, () => {});
  assert.throws(() => net.b.listen(80, () => {}), { code: "already_exists" });
  listener.close();
  listener.close();
  net.b.listen(80, () => {}).close();
  const refused = outcome(net.a.connect("fd00::b", 80));
  await net.until(() => refused.is !== "");
  assert.match(refused.is, /refused/);
  net.close();
});

test("a reader that rests stops the writer, and loses nothing when it goes on", async () => {
  const { net, client, server } = await connected({ limits: { receive: 100_000, send: 200_000 } });
  const total = 3_000_000;
  let written = 0;
  const write = () => {
    while (written < total) {
      written += 10_000;
      if (!client.write(Buffer.alloc(10_000, written / 10_000))) {
        client.once("drain", write);
        return;
      }
    }
    client.end();
  };
  write();
  await net.pass(30_000);
  const stalled = written;
  assert.ok(stalled < 800_000, `${stalled} bytes went into a stream that nobody reads`);
  // Probes of the closed window are few.
  const before = net.sent;
  await net.pass(120_000);
  assert.equal(written, stalled);
  assert.ok(net.sent - before > 2 && net.sent - before < 40, `${net.sent - before} packets`);
  let got = 0;
  let next = 0;
  server.on("data", (chunk: Buffer) => {
    for (let i = 0; i < chunk.length; i += 1_000) {
      const at = got + i;
      assert.equal(chunk[i], (Math.floor(at / 10_000) + 1) % 256);
      next++;
    }
    got += chunk.length;
  });
  await net.until(() => server.readableEnded);
  assert.equal(got, total);
  assert.ok(next > 0);
  net.close();
});

test("the writer is told when its bytes have left the stream's own buffer", async () => {
  const { net, client } = await connected();
  const order: string[] = [];
  client.write("small", () => order.push("small"));
  client.write(Buffer.alloc(1_000_000), () => order.push("large"));
  await turn();
  assert.deepEqual(order, ["small"]);
  await net.pass(1_000);
  // The peer does not read: what does not fit into both buffers waits here.
  assert.deepEqual(order, ["small"]);
  net.close();
  await turn();
  assert.deepEqual(order, ["small", "large"]);
});

test("a dead peer is noticed, with data under way and without", async () => {
  const idle = await connected();
  idle.net.cut();
  await idle.net.pass(190_000);
  assert.deepEqual(idle.clientEvents, []);
  await idle.net.pass(10_000);
  assert.match(idle.clientEvents[0] ?? "", /^unavailable: .* timed out: the peer is silent$/);
  assert.match(idle.serverEvents[0] ?? "", /silent/);

  const busy = await connected();
  busy.net.cut();
  busy.client.write("hello?");
  await busy.net.until(() => busy.clientEvents.length > 0, 250_000);
  assert.match(busy.clientEvents[0] ?? "", /^unavailable: .* timed out: /);
  await busy.net.pass(50_000);
  assert.equal(busy.net.clock.pending, 0);
});

test("an idle connection is kept alive at little cost", async () => {
  const { net, client, clientEvents } = await connected();
  const before = net.sent;
  await net.pass(3_600_000);
  assert.ok(net.sent - before <= 2 * 2 * 30, `${net.sent - before} packets in an hour`);
  assert.deepEqual(clientEvents, []);
  assert.equal(client.destroyed, false);
  net.close();
});

test("forget drops the connections with one remote and says nothing to it", async () => {
  const { net, client, server, serverEvents, clientEvents } = await connected();
  const before = net.sent;
  net.b.forget("fd00:0:0::a");
  await net.until(() => serverEvents.includes("close"));
  assert.match(serverEvents[0] ?? "", /^unavailable: connections with fd00:0:0::a were dropped$/);
  assert.equal(net.sent, before);
  assert.equal(net.b.size, 0);
  assert.ok(server.destroyed);
  // Whoever still thinks that it is there learns better.
  client.write("hello?");
  await net.until(() => clientEvents.includes("close"));
  assert.match(clientEvents[0] ?? "", /reset by the peer/);
});

test("close ends everything at once and leaves no timer", async () => {
  const { net, clientEvents, serverEvents } = await connected();
  const waiting = outcome(net.b.connect("fd00::c", 1));
  net.b.close();
  await net.until(() => clientEvents.includes("close") && serverEvents.includes("close"));
  assert.match(serverEvents[0] ?? "", /^unavailable: the network was closed$/);
  assert.match(clientEvents[0] ?? "", /reset by the peer/);
  assert.match(waiting.is, /the network was closed/);
  await assert.rejects(net.b.connect("fd00::a", 1), { code: "unavailable" });
  assert.throws(() => net.b.listen(1, () => {}), { code: "unavailable" });
  net.a.close();
  assert.equal(net.clock.pending, 0);
});

test("many connections share two stacks", async () => {
  const net = new Pair({ weather: { loss: 0.02, jitter: 3 } });
  net.b.listen(80, (stream) => stream.pipe(stream));
  const answers: string[] = [];
  for (let i = 0; i < 200; i++) {
    net.a.connect("fd00::b", 80).then((stream) => {
      let text = "";
      stream.on("data", (chunk) => {
        text += chunk;
      });
      stream.on("end", () => answers.push(text));
      stream.end(`number ${i}`);
    });
  }
  await net.until(() => answers.length === 200);
  assert.deepEqual(answers.toSorted(), Array.from({ length: 200 }, (_, i) => `number ${i}`).toSorted());
  await net.until(() => net.a.size + net.b.size === 0);
  await net.pass(100);
  assert.equal(net.clock.pending, 0);
});
