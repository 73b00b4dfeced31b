import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";
import { Relay } from "./relay.ts";

/** A socket in the place of the interface. */
async function bound(): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

test("datagrams of a machine reach the interface, those before the socket was bound too, and its answers the machine", async (t) => {
  const wireguard = await bound();
  const stranger = await bound();
  t.after(() => {
    wireguard.close();
    stranger.close();
  });
  let heard = (_: string) => {};
  const answer = new Promise<string>((resolve) => {
    heard = resolve;
  });
  const relay = new Relay(
    wireguard.address().port,
    (datagram) => heard(Buffer.from(datagram).toString()),
    (error) => assert.fail(error),
  );
  const arrived = once(wireguard, "message") as Promise<[Buffer, { port: number }]>;
  relay.receive(Buffer.from("initiation"));
  const [datagram, from] = await arrived;
  assert.equal(datagram.toString(), "initiation");
  assert.equal(from.port, await relay.ready);
  // Anybody on this host can send to it; only what the interface says goes on.
  await new Promise((sent) => stranger.send("not for it", from.port, "127.0.0.1", sent));
  wireguard.send("response", from.port, "127.0.0.1");
  assert.equal(await answer, "response");
  relay.close();
  relay.close();
  relay.receive(Buffer.from("after the end"));
});

test("one that was closed before it was bound has no port", async () => {
  const relay = new Relay(
    9,
    () => {},
    (error) => assert.fail(error),
  );
  relay.close();
  assert.equal(await relay.ready, undefined);
});
