import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { MachineStatusSpec_NetworkStatusSchema, MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterMachineIdentityKind } from "#kinds/cluster/cluster-machine-identity.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { systemClock } from "#lib/clock.ts";
import { codeOf } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { eventually, makeSite } from "./fixtures.test.ts";
import { type IndexedMachine, MachineIndex } from "./machine-index.ts";

const networkOf = (hostname: string, addresses: string[]) =>
  create(MachineStatusSpec_NetworkStatusSchema, { hostname, addresses });

/** What a machine may look like over time; undefined = it is forgotten. */
const look = fc.option(
  fc.record({
    cluster: fc.constantFrom("", "one", "two"),
    hostname: fc.constantFrom("", "Alpha", "beta"),
    address: fc.constantFrom("192.0.2.1/24", "192.0.2.2/24", "fe80::1/64"),
    nodename: fc.constantFrom("", "alpha", "gamma"),
    connected: fc.boolean(),
  }),
  { nil: undefined },
);
const ids = ["m1", "m2", "m3"];
const names = ["m1", "m2", "m3", "alpha", "beta", "gamma", "192.0.2.1", "192.0.2.2", "fe80::1", "fd00::1", "FD00:0::2"];

test("whatever changes, an index that followed along answers like one that starts now", async (t) => {
  const site = makeSite(t);
  const history = fc.array(fc.record({ id: fc.constantFrom(...ids), look }), { minLength: 1, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      for (const { id, look } of steps) {
        if (!look) {
          for (const kind of [MachineStatusKind, ClusterMachineIdentityKind])
            await site.state.destroy(kind.key(id)).catch((error) => assert.equal(codeOf(error), "not_found"));
          continue;
        }
        await site.state.modify(MachineStatusKind, id, ({ spec }) => {
          spec.cluster = look.cluster;
          spec.connected = look.connected;
          spec.managementAddress = `fd00::${id.slice(1)}`;
          spec.role = MachineStatusSpec_Role.CONTROL_PLANE;
          spec.network = networkOf(look.hostname, [look.address]);
        });
        await site.state.modify(ClusterMachineIdentityKind, id, ({ spec }) => {
          spec.nodename = look.nodename;
        });
      }
      const stop = new AbortController();
      const fresh = new MachineIndex({ state: site.state, clock: systemClock, log: silent, signal: stop.signal });
      await fresh.ready();
      const wanted = JSON.stringify(picture(fresh));
      stop.abort();
      await eventually(() => JSON.stringify(picture(site.machines)) === wanted, "the index catches up");
    }),
    { numRuns: 60 },
  );
});

function picture(index: MachineIndex): unknown {
  const answers = [undefined, "one", "two"].flatMap((cluster) =>
    names.map((name) => {
      try {
        return index.resolve(name, cluster).id;
      } catch (error) {
        return `${codeOf(error)} ${(error as Error).message.length}`;
      }
    }),
  );
  const planes = ["", "one", "two"].map((cluster) => index.controlPlanes(cluster).map(({ id }) => id));
  return [
    answers,
    planes,
    index.byAddress("fd00::1")?.id,
    index.byAddress("192.0.2.1")?.id,
    ids.map((id) => index.get(id)),
  ];
}

test("control planes with a link come first; those without a configuration do not count", async (t) => {
  const site = makeSite(t);
  await site.addMachine("a", { cluster: "one", managementAddress: "fd00::a", connected: false });
  await site.addMachine("b", { cluster: "one", managementAddress: "fd00::b" });
  await site.addMachine("c", { cluster: "one", managementAddress: "fd00::c", maintenance: true });
  await site.addMachine("d", { cluster: "one", managementAddress: "fd00::d", role: MachineStatusSpec_Role.WORKER });
  await eventually(() => site.machines.get("d") !== undefined, "all are known");
  assert.deepEqual(
    site.machines.controlPlanes("one").map(({ id }) => id),
    ["b", "a"],
  );
});

test("the loss of a link is told once, also when the machine is forgotten or moves", async (t) => {
  const site = makeSite(t);
  const lost: IndexedMachine[] = [];
  const stop = site.machines.onLost((machine) => lost.push(machine));
  await site.addMachine("a", { managementAddress: "fd00::a" });
  await site.addMachine("a", { connected: false });
  await site.addMachine("a", { connected: true });
  await site.addMachine("a", { managementAddress: "fd00::b" });
  await site.state.destroy(MachineStatusKind.key("a"));
  await eventually(() => lost.length === 3, "three times");
  assert.deepEqual(
    lost.map(({ address }) => address),
    ["fd00::a", "fd00::a", "fd00::b"],
  );
  stop();
  await site.addMachine("a", { managementAddress: "fd00::a" });
  await site.state.destroy(MachineStatusKind.key("a"));
  await eventually(() => site.machines.get("a") === undefined, "gone");
  assert.equal(lost.length, 3);
});
