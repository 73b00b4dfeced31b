import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TestPlane, template } from "./harness.ts";

// What must not break us: a plane that is killed at any moment, a configuration that Talos refuses, tokens that are no longer good.

const plane = new TestPlane("failure");
let machines: string[] = [];
const kills = 10;

const file = (name: string, text: string) => {
  writeFileSync(join(plane.data, name), text);
  return join(plane.data, name);
};
const must = async (...args: string[]) => {
  const said = await plane.cli(...args);
  assert.equal(said.code, 0, said.stderr);
  return said;
};

before(async () => {
  await plane.start();
  machines = await plane.emulate(4);
  await must("machine", "wait", "--count", "4", "--timeout", "60s");
});
after(() => plane.stop());

test("a plane that is killed again and again while a cluster comes up goes on each time", {
  timeout: 240_000,
}, async () => {
  const path = file("store.yaml", template("store", machines.slice(0, 3), []));
  await must("template", "sync", path);
  for (let kill = 0; kill < kills; kill++) {
    await new Promise<void>((killed, failed) => {
      setTimeout(() => plane.kill().then(killed, failed), Math.random() * 800);
    });
    await plane.start();
  }
  await must("cluster", "status", "store", "--wait", "--timeout", "120s");
  // A machine that is asked says so in its kernel log; asked again, since the plane did not hear the answer, it may be, another never.
  const bootstrapped = new Set<string>();
  for (const id of machines.slice(0, 3)) {
    const { stdout } = await must("machine", "logs", id);
    if (stdout.includes("bootstrapping etcd cluster")) bootstrapped.add(id);
  }
  // None where the line was on its way to a plane that was killed at that moment.
  assert.ok(bootstrapped.size <= 1, [...bootstrapped].join(", "));
});

test("a configuration that Talos refuses is told in its words, and a better one goes through", {
  timeout: 120_000,
}, async () => {
  const withSubnet = (subnet: string) =>
    template(
      "kiosk",
      machines.slice(3),
      [],
      `patches:\n  - name: pods\n    inline:\n      cluster:\n        network:\n          podSubnets: [ ${subnet} ]\n`,
    );
  await must("template", "sync", file("kiosk.yaml", withSubnet("nowhere")));
  const refused = await plane.cli("cluster", "status", "kiosk", "--wait", "--timeout", "10s");
  assert.equal(refused.code, 1);
  const { stdout } = await must("cluster", "status", "kiosk");
  assert.match(stdout, /invalid pod subnet/);
  await must("template", "sync", file("kiosk.yaml", withSubnet("10.7.0.0/16")));
  await must("cluster", "status", "kiosk", "--wait", "--timeout", "60s");
});

test("revoked and expired tokens let nobody in, and the plane says why", { timeout: 60_000 }, async () => {
  const { id } = await plane.json<{ id: string }>("token", "create", "visitors");
  const args = (await must("join", "--kernel-args", "--token", id)).stdout.trim();
  await must("token", "revoke", id, "--yes");
  const again = await plane.cli("join", "--kernel-args", "--token", id);
  assert.equal(again.code, 6);
  assert.match(again.stderr, /revoked/);
  // A machine that was given the arguments before knocks all the same.
  await plane.emulate(1, "--kernel-args", args, "--seed", "late");
  await plane.logged(/machine not admitted/);
  const listed = await plane.json<{ id: string }[]>("machine", "list");
  assert.deepEqual(listed.map(({ id: machine }) => machine).sort(), [...machines].sort());
});
