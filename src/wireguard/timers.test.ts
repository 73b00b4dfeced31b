import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "#lib/clock.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "./device.ts";
import { LazyTimer } from "./lazy-timer.ts";
import { packet, pair } from "./testing.ts";

test("a session is renewed by count, and none is used beyond its last message", () => {
  const { clock, send, heard, sent, seen } = pair({ limits: { rekeyAfter: 20, rejectAfter: 30 } });
  for (let count = 0; count < 200; count++) {
    send("a", `${count}`);
    // A responder takes at most one initiation in 20 ms.
    clock.advance(2);
  }
  assert.deepEqual(
    heard("b"),
    Array.from({ length: 200 }, (_, count) => `${count}`),
  );
  assert.ok(sent(1) >= 200 / 30 && sent(1) <= 12, `${sent(1)} handshakes`);
  for (const { datagram } of seen)
    if (datagram[0] === 4) assert.ok(Buffer.from(datagram).readBigUInt64LE(8) < 30n, "a counter beyond the limit");
});

test("with every handshake lost, a spent session falls silent rather than reuse a counter", () => {
  const { send, heard, wire, seen } = pair({ limits: { rekeyAfter: 5, rejectAfter: 10 } });
  send("a", "0");
  wire.pass = (datagram, deliver) => {
    if (datagram[0] === 4) deliver();
  };
  for (let count = 1; count < 50; count++) send("a", `${count}`);
  const transports = seen.filter(({ to, datagram }) => to === "b" && datagram[0] === 4);
  const counters = transports.map(({ datagram }) => Number(Buffer.from(datagram).readBigUInt64LE(8)));
  assert.equal(new Set(counters).size, counters.length);
  assert.equal(counters.length, 10);
  assert.equal(heard("b").length, 10);
});

test("keys of 180 s open nothing more, and of 540 s are forgotten with their timers", () => {
  const { clock, send, heard, seen, devices, wire } = pair();
  send("a", "first");
  const late: Uint8Array[] = [];
  wire.pass = (datagram) => late.push(datagram);
  send("a", "late");
  const held = late.find((datagram) => datagram[0] === 4)!;
  clock.advance(179_000);
  wire.pass = (_, deliver) => deliver();
  clock.advance(1_500);
  devices.b.input(held, "a");
  assert.deepEqual(heard("b"), ["first"]);
  const before = seen.length;
  clock.advance(3_600_000);
  assert.equal(seen.length, before, "an idle pair without keepalive is silent for an hour");
  assert.equal(clock.pending, 0, "no timer is left");
});

test("a datagram delayed within 180 s and over a renewal still arrives: the previous keys live on", () => {
  const { clock, send, heard, wire, devices, sent } = pair();
  send("a", "first");
  let held: Uint8Array | undefined;
  wire.pass = (datagram, deliver) => {
    if (!held && datagram[0] === 4) held = datagram;
    else deliver();
  };
  send("a", "delayed");
  wire.pass = (_, deliver) => deliver();
  clock.advance(121_000);
  send("a", "renews");
  assert.equal(sent(1), 2);
  send("a", "after");
  devices.b.input(held!, "a");
  assert.deepEqual(heard("b"), ["first", "renews", "after", "delayed"]);
});

test("who only receives answers with a keepalive after 10 s, and nobody answers a keepalive", () => {
  const { clock, send, seen } = pair();
  send("a", "x");
  clock.advance(9_000);
  const before = seen.length;
  assert.equal(seen.filter(({ to }) => to === "a").length, 1, "the response of the handshake alone");
  clock.advance(2_000);
  assert.deepEqual(
    seen.slice(before).map(({ to, datagram }) => [to, datagram.length]),
    [["a", 32]],
  );
  clock.advance(60_000);
  assert.equal(seen.length, before + 1);
});

test("who sends and hears nothing for 15 s begins a new handshake", () => {
  const { clock, send, wire, sent, devices, keys } = pair();
  send("a", "x");
  wire.pass = (datagram, deliver) => {
    if (datagram[0] !== 4) deliver();
  };
  send("a", "lost");
  assert.equal(sent(1), 1);
  clock.advance(14_900);
  assert.equal(sent(1), 1);
  clock.advance(200);
  assert.equal(sent(1), 2);
  assert.ok(clock.now() - devices.a.peer(publicKeyOf(keys.b))!.lastHandshake < 1000);
});

test("nobody answers: tries end after 90 s, and the next packet begins anew", () => {
  const { clock, send, wire, sent, heard } = pair();
  wire.pass = () => {};
  send("a", "lost");
  clock.advance(100_000);
  const tries = sent(1);
  assert.ok(tries >= 17 && tries <= 19, `${tries} tries`);
  clock.advance(600_000);
  assert.equal(sent(1), tries);
  wire.pass = (_, deliver) => deliver();
  send("a", "again");
  assert.deepEqual(heard("b"), ["again"], "what waited when the tries ended is not sent late");
});

test("with a persistent keepalive it never gives up", () => {
  const { clock, wire, sent, devices, keys } = pair({ keepalive: 25 });
  wire.pass = () => {};
  clock.advance(3_600_000);
  const tries = sent(1);
  assert.ok(tries > 100, `${tries} tries in an hour`);
  wire.pass = (_, deliver) => deliver();
  clock.advance(60_000);
  assert.ok(devices.b.peer(publicKeyOf(keys.a))!.lastHandshake > 0);
});

test("while there is no session, the last 128 packets wait, and no more", () => {
  const { clock, send, wire, heard } = pair();
  wire.pass = () => {};
  for (let count = 0; count < 1000; count++) send("a", `${count}`);
  wire.pass = (_, deliver) => deliver();
  clock.advance(6_000);
  assert.deepEqual(
    heard("b"),
    Array.from({ length: 128 }, (_, count) => `${872 + count}`),
  );
});

test("two that begin at once end with one session that both use", () => {
  const { clock, wire, send, heard, devices, keys } = pair();
  // Now "b" knows where "a" is; an hour later both have something to say in the same moment.
  send("a", "hello");
  clock.advance(3_600_000);
  const held: (() => void)[] = [];
  wire.pass = (_, deliver) => held.push(deliver);
  send("a", "from a");
  send("b", "from b");
  wire.pass = (_, deliver) => deliver();
  for (const deliver of held.splice(0)) deliver();
  clock.advance(20_000);
  for (let round = 0; round < 5; round++) {
    send("a", `a${round}`);
    send("b", `b${round}`);
  }
  assert.deepEqual(heard("b"), ["hello", "from a", "a0", "a1", "a2", "a3", "a4"]);
  assert.deepEqual(heard("a"), ["from b", "b0", "b1", "b2", "b3", "b4"]);
  assert.ok(devices.a.peer(publicKeyOf(keys.b))!.lastHandshake > 0);
});

test("roaming is told once for each move, only by authentic datagrams", () => {
  const { send, endpoints, moved, seen, devices } = pair();
  send("a", "x");
  const start = moved.length;
  endpoints.a = "elsewhere";
  send("a", "y");
  send("a", "z");
  assert.deepEqual(moved.slice(start), ["a at elsewhere"]);
  const forged = Uint8Array.from(seen.findLast(({ to }) => to === "b")!.datagram);
  forged[30]! ^= 1;
  devices.b.input(forged, "attacker");
  const replayed = seen.findLast(({ to }) => to === "b")!.datagram;
  devices.b.input(replayed, "attacker");
  assert.deepEqual(moved.slice(start), ["a at elsewhere"]);
  send("b", "back");
  assert.equal(seen.at(-1)!.to, "elsewhere");
});

test("thousands of peers: each by key, address and index, gone without a trace when removed", () => {
  const clock = new ManualClock();
  const serverKey = generatePrivateKey();
  const out: { datagram: Uint8Array; to: number }[] = [];
  const from: string[] = [];
  const server = new WireGuard<number>({
    privateKey: serverKey,
    clock,
    send: (datagram, to) => out.push({ datagram, to }),
    receive: (inner, peer) => from.push(`${peer.tag}:${Buffer.from(inner.subarray(40))}`),
  });
  const count = 2000;
  const keys = Array.from({ length: count }, () => generatePrivateKey());
  const address = (n: number) => `fd00::1:${n.toString(16)}`;
  for (const [n, key] of keys.entries())
    server.addPeer({ publicKey: publicKeyOf(key), allowedIPs: [address(n)], tag: n });
  const spoken = [0, 1, 999, 1998, 1999];
  for (const n of spoken) {
    const client = new WireGuard<number>({
      privateKey: keys[n]!,
      clock,
      send: (datagram) => server.input(datagram, n),
      receive: () => {},
    });
    client.addPeer({ publicKey: publicKeyOf(serverKey), endpoint: -1, allowedIPs: ["fd00::1"] });
    client.output(packet(address(n), "fd00::1", "hello"));
    for (const { datagram, to } of out.splice(0)) {
      assert.equal(to, n);
      client.input(datagram, -1);
    }
    assert.equal(server.peerByAddress(address(n))!.tag, n);
    assert.equal(server.peer(publicKeyOf(keys[n]!))!.endpoint, n);
  }
  assert.deepEqual(
    from,
    spoken.map((n) => `${n}:hello`),
  );
  for (const key of keys) server.removePeer(publicKeyOf(key));
  assert.equal(server.peerByAddress(address(5)), undefined);
  assert.equal(server.output(packet("fd00::1", address(0), "x")), false);
});

test("a peer put in another's place takes its address, and the old one's removal does not take it back", () => {
  const { devices, keys } = pair();
  const other = generatePrivateKey();
  devices.a.addPeer({ publicKey: publicKeyOf(other), allowedIPs: ["fd00::b"], tag: "new" });
  assert.equal(devices.a.peerByAddress("fd00::b")!.tag, "new");
  devices.a.removePeer(publicKeyOf(keys.b));
  assert.equal(devices.a.peerByAddress("fd00::b")!.tag, "new");
});

test("a timer that is moved fires once, at its last time", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(fc.record({ set: fc.nat(100) }), fc.record({ wait: fc.nat(60) }), fc.constant("clear" as const)),
      ),
      (actions) => {
        const clock = new ManualClock();
        const fired: number[] = [];
        const timer = new LazyTimer(clock, () => fired.push(clock.monotonic()));
        const expected: number[] = [];
        let due: number | undefined;
        for (const action of actions) {
          if (action === "clear") {
            due = undefined;
            timer.clear();
          } else if ("set" in action) {
            due = clock.monotonic() + action.set;
            timer.set(action.set);
          } else {
            const end = clock.monotonic() + action.wait;
            if (due !== undefined && due <= end) {
              expected.push(due);
              due = undefined;
            }
            clock.advance(action.wait);
          }
          assert.equal(timer.on, due !== undefined);
          assert.deepEqual(fired, expected);
        }
        timer.close();
        assert.equal(clock.pending, 0);
      },
    ),
  );
});
