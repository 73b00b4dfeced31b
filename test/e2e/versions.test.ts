import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TestPlane, template } from "./harness.ts";

// Each minor of Talos that is supported becomes a cluster, whatever the machine was booted with; and clusters grow and shrink.

const plane = new TestPlane("versions");
before(() => plane.start());
after(() => plane.stop());

let joined = 0;
const boot = async (count: number, talos: string) => {
  const machines = await plane.emulate(count, "--talos", talos, "--seed", `${talos} ${joined}`);
  joined += count;
  const { code, stderr } = await plane.cli("machine", "wait", "--count", String(joined), "--timeout", "60s");
  assert.equal(code, 0, stderr);
  return machines;
};
const sync = async (name: string, controlPlanes: readonly string[], talos: string, kubernetes: string) => {
  const file = join(plane.data, `${name}.yaml`);
  const text = template(name, controlPlanes, []).replace("v1.36.3", kubernetes).replace("v1.13.9", talos);
  writeFileSync(file, text);
  const { code, stderr } = await plane.cli("template", "sync", file, "--wait", "--timeout", "90s");
  assert.equal(code, 0, stderr);
};
const versionOf = async (id: string) =>
  (await plane.json<{ id: string; talosVersion: string }[]>("machine", "list")).find((machine) => machine.id === id)
    ?.talosVersion;

for (const [booted, talos, kubernetes] of [
  ["v1.11.6", "v1.11.6", "v1.34.1"],
  ["v1.12.11", "v1.12.11", "v1.35.4"],
  ["v1.13.0", "v1.13.0", "v1.36.3"],
  ["v1.12.11", "v1.13.9", "v1.36.3"],
] as const) {
  test(`booted with ${booted}, a machine runs ${talos} and Kubernetes ${kubernetes}`, {
    timeout: 120_000,
  }, async () => {
    const [id = ""] = await boot(1, booted);
    await sync(`c${joined}`, [id], talos, kubernetes);
    assert.equal(await versionOf(id), talos);
  });
}

test("one control plane becomes three, and one again", { timeout: 180_000 }, async () => {
  const machines = await boot(3, "v1.13.9");
  for (const count of [1, 3, 1]) {
    await sync("grown", machines.slice(0, count), "v1.13.9", "v1.36.3");
    const status = await plane.json<{ machines: { total: number } }>("cluster", "status", "grown");
    assert.equal(status.machines.total, count);
  }
});
