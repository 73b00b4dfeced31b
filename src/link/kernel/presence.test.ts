import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "#lib/clock.ts";
import type { Endpoint, PeerEvent } from "#link/engine.ts";
import { Newest } from "./newest.ts";
import { Presence } from "./presence.ts";

const relay = { host: "127.0.0.1", port: 4000 };
const udp = { kind: "udp", host: "192.0.2.7", port: 51_820 } as const;
const tunnel: Endpoint = { kind: "tunnel", id: "[fdae::1]:50889" };
const address = "fdae:41e4:649b:9303::5";

function watched() {
  const clock = new ManualClock();
  const tunnels = new Set([4000, 4001]);
  const presence = new Presence((host, port) =>
    host === relay.host && tunnels.has(port) ? tunnel : { kind: "udp", host, port },
  );
  presence.add("key", address);
  const look = (handshake: number, endpoint?: { host: string; port: number }, key = "key"): PeerEvent[] => {
    const at = endpoint ? { host: endpoint.host, port: endpoint.port } : undefined;
    return presence.look(
      { port: 50_180, peers: [{ key, handshake, ...(at ? { endpoint: at } : {}) }] },
      clock.monotonic(),
    );
  };
  return { clock, presence, tunnels, look };
}

test("a peer is up with its first handshake, and told once", () => {
  const { look, presence } = watched();
  assert.deepEqual(look(0, udp), []);
  assert.equal(presence.isUp("key"), false);
  assert.deepEqual(look(1_700_000_000, udp), [{ kind: "up", address, endpoint: udp }]);
  assert.deepEqual(look(1_700_000_000, udp), []);
  assert.equal(presence.isUp("key"), true);
  assert.deepEqual(look(1_700_000_000, udp, "a key that nobody has"), []);
});

test("it is down after 275 s without another handshake, and up again with the next", () => {
  const { look, clock } = watched();
  look(100, udp);
  clock.advance(200_000);
  assert.deepEqual(look(300, udp), []);
  clock.advance(274_999);
  assert.deepEqual(look(300, udp), []);
  clock.advance(1);
  assert.deepEqual(look(300, udp), [{ kind: "down", address }]);
  clock.advance(60_000);
  assert.deepEqual(look(300, udp), []);
  // The wall clock was set back meanwhile: another time is another handshake all the same.
  assert.deepEqual(look(120, udp), [{ kind: "up", address, endpoint: udp }]);
});

test("an interface that was made again has no handshakes, which is no news", () => {
  const { look, clock } = watched();
  look(100, udp);
  clock.advance(10_000);
  assert.deepEqual(look(0, udp), []);
  clock.advance(265_000);
  assert.deepEqual(look(0, udp), [{ kind: "down", address }]);
});

test("it roams when it sends from elsewhere, not when the relay of its tunnel ends or is another", () => {
  const { look, tunnels } = watched();
  look(100, udp);
  assert.deepEqual(look(100, relay), [{ kind: "roamed", address, endpoint: tunnel }]);
  tunnels.delete(4000);
  assert.deepEqual(look(100, relay), []);
  assert.deepEqual(look(101, { ...relay, port: 4001 }), []);
  assert.deepEqual(look(101, udp), [{ kind: "roamed", address, endpoint: udp }]);
});

test("a peer that was removed and comes back starts anew", () => {
  const { look, presence } = watched();
  look(100, udp);
  presence.remove("key");
  assert.deepEqual(look(100, udp), []);
  presence.add("key", address);
  assert.deepEqual(look(100, udp), [{ kind: "up", address, endpoint: udp }]);
});

test("a follower who does not read keeps the newest of each, in order, until it is told to stop", async () => {
  const newest = new Newest<{ of: string; n: number }>(({ of }) => of);
  const stop = new AbortController();
  const read: string[] = [];
  const following = (async () => {
    for await (const { of, n } of newest.follow(stop.signal)) {
      read.push(`${of}${n}`);
      if (read.length === 1)
        for (const next of ["b", "a", "b"]) newest.tell({ of: next, n: read.length + next.length });
      if (read.length === 3) stop.abort();
    }
  })();
  newest.tell({ of: "a", n: 1 });
  await following;
  assert.deepEqual(read, ["a1", "a2", "b2"]);
  newest.tell({ of: "a", n: 9 });
  assert.equal(read.length, 3);
});
