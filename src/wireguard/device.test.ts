import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "#lib/clock.ts";
import { generatePrivateKey, publicKeyOf, WireGuard } from "./device.ts";
import { packet, pair } from "./testing.ts";

test("packets that wait for the handshake arrive, both ways, in order", () => {
  const { send, heard, devices, keys } = pair();
  for (const word of ["one", "two", "three"]) send("a", word);
  assert.deepEqual(heard("b"), ["one", "two", "three"]);
  send("b", "back");
  assert.deepEqual(heard("a"), ["back"]);
  assert.ok((devices.a.peer(publicKeyOf(keys.b))?.lastHandshake ?? 0) > 0);
  assert.equal(devices.a.output(packet("fd00::a", "fd00::c", new Uint8Array())), false);
});

test("sessions are renewed by the initiator after 120 s of use and die after 180 s", () => {
  const { clock, send, heard, seen } = pair();
  send("a", "x");
  const handshakes = () => seen.filter(({ datagram }) => datagram[0] === 1).length;
  assert.equal(handshakes(), 1);
  clock.advance(119_000);
  send("a", "still");
  assert.equal(handshakes(), 1);
  clock.advance(2_000);
  send("a", "renews");
  assert.equal(handshakes(), 2);
  clock.advance(200_000);
  send("a", "anew");
  assert.equal(handshakes(), 3);
  assert.deepEqual(heard("b"), ["x", "still", "renews", "anew"]);
});

test("a lost handshake is repeated every 5 s, for 90 s", () => {
  const { clock, wire, send, heard, seen } = pair();
  wire.pass = () => {};
  send("a", "lost");
  clock.advance(60_000);
  const tries = seen.length;
  assert.ok(tries >= 11 && tries <= 13, `${tries} tries in 60 s`);
  wire.pass = (_, deliver) => deliver();
  clock.advance(6_000);
  assert.deepEqual(heard("b"), ["lost"]);
});

test("replayed and forged datagrams are refused", () => {
  const { devices, send, heard, seen } = pair();
  send("a", "once");
  const last = seen.findLast(({ to, datagram }) => to === "b" && datagram[0] === 4)!.datagram;
  devices.b.input(last, "a");
  const forged = Uint8Array.from(last);
  forged[20]! ^= 1;
  devices.b.input(forged, "a");
  assert.deepEqual(heard("b"), ["once"]);
  const first = seen.find(({ datagram }) => datagram[0] === 1)!.datagram;
  const before = seen.length;
  devices.b.input(first, "elsewhere");
  assert.equal(seen.length, before, "an old initiation gets no answer");
});

test("a peer may move: answers follow the last authentic datagram", () => {
  const { send, seen, endpoints } = pair();
  send("a", "x");
  endpoints.a = "a2";
  send("a", "y");
  send("b", "z");
  assert.equal(seen.at(-1)?.to, "a2");
});

test("a persistent keepalive begins by itself and holds the session up", () => {
  const { clock, devices, keys, seen } = pair({ keepalive: 25 });
  clock.advance(1);
  assert.ok(devices.b.peer(publicKeyOf(keys.a))!.lastHandshake > 0);
  const before = seen.length;
  clock.advance(100_000);
  assert.ok(seen.length - before >= 3);
});

test("a peer cannot speak for another's address", () => {
  const { devices, send, heard } = pair();
  send("a", "x");
  devices.a.output(packet("fd00::c", "fd00::b", Buffer.from("spoofed")));
  assert.deepEqual(heard("b"), ["x"]);
});

test("under load, who does not prove an address gets a cookie and then comes through", () => {
  const clock = new ManualClock();
  const serverKey = generatePrivateKey();
  let heard = 0;
  const replies: Uint8Array[] = [];
  const server = new WireGuard<string>({
    privateKey: serverKey,
    clock,
    send: (datagram) => replies.push(datagram),
    receive: () => heard++,
  });
  const clients = Array.from({ length: 300 }, (_, n) => {
    const key = generatePrivateKey();
    const address = `fd00::1:${n.toString(16)}`;
    server.addPeer({ publicKey: publicKeyOf(key), allowedIPs: [address] });
    const out: Uint8Array[] = [];
    const client = new WireGuard<string>({
      privateKey: key,
      clock,
      send: (datagram) => out.push(datagram),
      receive: () => {},
    });
    client.addPeer({ publicKey: publicKeyOf(serverKey), endpoint: "server", allowedIPs: ["fd00::1"] });
    client.output(packet(address, "fd00::1", Buffer.from("hello")));
    return { client, out, from: `client${n}` };
  });
  const exchange = () => {
    for (const { client, out, from } of clients) {
      for (const datagram of out.splice(0)) {
        server.input(datagram, from);
        for (const reply of replies.splice(0)) client.input(reply, "server");
      }
    }
  };
  exchange();
  exchange();
  const before = heard;
  assert.ok(before >= 150 && before < 300, `${before} came through at once`);
  for (let round = 0; round < 8; round++) {
    clock.advance(5_500);
    exchange();
  }
  assert.equal(heard, 300);
});

test("no bytes from outside make it throw", () => {
  const { devices, send, seen, heard } = pair();
  send("a", "x");
  const real = seen.map(({ datagram }) => datagram);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => devices.b.input(bytes, "z")),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.constantFrom(...real), fc.nat(), fc.nat(255), (datagram, at, value) => {
      const bytes = Uint8Array.from(datagram);
      bytes[at % bytes.length] = value;
      devices.b.input(bytes, "a");
      devices.a.input(bytes, "b");
    }),
    { numRuns: 500 },
  );
  send("a", "y");
  assert.equal(heard("b").at(-1), "y");
});
