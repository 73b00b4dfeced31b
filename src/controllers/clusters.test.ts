import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Engine } from "#engine/engine.ts";
import {
  ClusterStatusSpec_Phase,
  ConfigApplyStatus,
  MachineSetPhase,
  MachineStatusSpec_HardwareStatusSchema,
} from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineConfigKind } from "#kinds/cluster/cluster-machine-config.ts";
import { ClusterMachineStatusKind } from "#kinds/cluster/cluster-machine-status.ts";
import { ClusterProgressKind } from "#kinds/cluster/cluster-progress.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { LoadBalancerConfigKind } from "#kinds/cluster/load-balancer-config.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { MachineSetStatusKind } from "#kinds/cluster/machine-set-status.ts";
import { RedactedClusterMachineConfigKind } from "#kinds/cluster/redacted-cluster-machine-config.ts";
import { label } from "#kinds/labels.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { parseConfig } from "#talos/document.ts";
import { decodeSecrets } from "#talos/secrets.ts";
import { controllers } from "./all.ts";
import { MachineClients } from "./machine-clients.ts";

// All controllers over a real store; no machine answers, so that everything up to the wire is seen alone.

const clock = systemClock;
const store = new MemoryStore({ clock });
const state = new State(store);
const dial = async () => {
  throw new IchorError("unavailable", "no machine answers in this test");
};
const engine = new Engine({
  store,
  clock,
  log: silent,
  controllers: controllers({
    state,
    dial,
    clients: new MachineClients({ state, dial, clock }),
    clock,
    log: silent,
    settings: {
      imageFactory: "https://factory.example",
      kubernetesRegistry: "registry.example/k8s",
      joinTarget: (joinToken, tunnel) => ({
        apiUrl: "grpc://192.0.2.1:8090",
        joinToken,
        tunnel,
        planeAddress: "fdae:41e4:649b:9303::1",
        eventsPort: 8090,
        logsPort: 8092,
      }),
    },
  }),
});
const signal = AbortSignal.timeout(20_000);
before(() => engine.start());
after(async () => {
  await engine.stop();
  await store.close();
});

let last = 2;
/** A machine that has joined and told its disks. */
async function machine(): Promise<string> {
  const id = randomUUID();
  await state.as("link").create(LinkKind, id, {
    nodeSubnet: `fdae:41e4:649b:9303::${(last++).toString(16)}/64`,
    nodePublicKey: randomBytes(32).toString("base64"),
  });
  await state.waitFor(MachineStatusKind, id, (found) => found?.metadata.phase === "running", signal);
  await state.as("machine-status").modify(MachineStatusKind, id, ({ spec }) => {
    spec.talosVersion = "v1.13.9";
    spec.hardware = create(MachineStatusSpec_HardwareStatusSchema, {
      blockdevices: [{ size: 64_000_000_000n, linuxName: "/dev/nvme0n1", transport: "nvme" }],
    });
  });
  return id;
}

async function cluster(name: string, controlPlanes: readonly string[], workers: readonly string[] = []): Promise<void> {
  await state.create(ClusterKind, name, { talosVersion: "1.13.9", kubernetesVersion: "1.36.3" });
  for (const [set, ids, role] of [
    [`${name}-control-planes`, controlPlanes, label.roleControlPlane],
    [`${name}-workers`, workers, label.roleWorker],
  ] as const) {
    if (ids.length === 0) continue;
    const labels = { [label.cluster]: name, [role]: "" };
    await state.create(MachineSetKind, set, {}, { labels });
    for (const id of ids)
      await state.create(MachineSetNodeKind, id, {}, { labels: { ...labels, [label.machineSet]: set } });
  }
}

const configOf = async (id: string) =>
  Buffer.from(
    (await state.waitFor(ClusterMachineConfigKind, id, (found) => (found?.spec.data.length ?? 0) > 0, signal))?.spec
      .data ?? "",
  ).toString();
type Tree = { readonly [key: string]: unknown };
/** A field of the main document, by its dotted path. */
const field = (text: string, path: string): unknown =>
  path.split(".").reduce<unknown>((at, key) => (at as Tree | undefined)?.[key], parseConfig(text)[0]?.document);

test("three control planes and a worker get their configurations, and nobody sees the secrets", async () => {
  const ids = await Promise.all(Array.from({ length: 4 }, machine));
  await cluster("shop", ids.slice(0, 3), ids.slice(3));
  const [first = "", , , worker = ""] = ids;
  const control = await configOf(first);
  assert.equal(field(control, "machine.type"), "controlplane");
  assert.equal(field(control, "machine.install.disk"), "/dev/nvme0n1");
  assert.equal(field(control, "cluster.allowSchedulingOnControlPlanes"), undefined);
  assert.match(String(field(control, "cluster.apiServer.image")), /^registry\.example\/k8s\/kube-apiserver:v1\.36\.3$/);
  const port = (await state.require(LoadBalancerConfigKind, "shop")).spec.bindPort;
  assert.equal(field(control, "cluster.controlPlane.endpoint"), `https://[fdae:41e4:649b:9303::1]:${port}`);
  const small = await configOf(worker);
  assert.equal(field(small, "machine.type"), "worker");
  assert.equal(field(small, "machine.ca.key"), "");
  const bundle = decodeSecrets((await state.require(ClusterSecretsKind, "shop")).spec.data);
  const redacted = await state.waitFor(RedactedClusterMachineConfigKind, first, (found) => !!found?.spec.data, signal);
  for (const secret of [bundle.os.key, bundle.kubernetes.key, bundle.etcd.key, bundle.serviceAccountKey])
    assert.ok(!redacted?.spec.data.includes(Buffer.from(secret).toString("base64")));
  for (const secret of [
    bundle.trustdToken,
    bundle.bootstrapToken,
    bundle.clusterSecret,
    bundle.secretboxEncryptionSecret,
  ])
    assert.ok(!redacted?.spec.data.includes(secret));
});

test("patches apply in the order cluster, machine set, machine; a changed one reaches its machines", async () => {
  const [id = ""] = [await machine()];
  await cluster("order", [id]);
  const patch = (name: string, labels: Record<string, string>, value: string) =>
    state.create(
      ConfigPatchKind,
      name,
      { data: `machine:\n  sysctls:\n    who.won: ${value}\n    from.${value}: "1"\n` },
      { labels: { [label.cluster]: "order", ...labels } },
    );
  // Ids sort the other way round: levels win over ids.
  await patch("100-machine", { [label.clusterMachine]: id }, "machine");
  await patch("200-set", { [label.machineSet]: "order-control-planes" }, "set");
  await patch("900-cluster", {}, "cluster");
  const config = await state.waitFor(
    ClusterMachineConfigKind,
    id,
    (found) =>
      Buffer.from(found?.spec.data ?? "")
        .toString()
        .includes("from.cluster"),
    signal,
  );
  const text = Buffer.from(config?.spec.data ?? "").toString();
  const sysctls = field(text, "machine.sysctls") as Record<string, string>;
  assert.deepEqual(
    Object.keys(sysctls)
      .filter((key) => key.startsWith("from."))
      .sort(),
    ["from.cluster", "from.machine", "from.set"],
  );
  assert.equal(sysctls["who.won"], "machine");
  assert.equal(field(text, "cluster.allowSchedulingOnControlPlanes"), true);
});

test("a patch that cannot be applied is told with its name, and the rest goes on", async () => {
  const id = await machine();
  await cluster("wrong", [id]);
  await state.create(
    ConfigPatchKind,
    "500-broken",
    { data: "machine: [not, a, map" },
    { labels: { [label.cluster]: "wrong" } },
  );
  const status = await state.waitFor(
    ClusterMachineStatusKind,
    id,
    (found) => found?.spec.configApplyStatus === ConfigApplyStatus.FAILED,
    signal,
  );
  assert.match(status?.spec.lastConfigError ?? "", /500-broken/);
  const progress = await state.waitFor(ClusterProgressKind, "wrong", (found) => !!found?.spec.lastError, signal);
  assert.match(progress?.spec.lastError ?? "", /500-broken/);
  assert.ok(progress?.spec.lastErrorTime);
});

test("an even number of control planes is not made, and the reason is told", async () => {
  const ids = await Promise.all([machine(), machine()]);
  await cluster("even", ids);
  const status = await state.waitFor(
    MachineSetStatusKind,
    "even-control-planes",
    (found) => found?.spec.phase === MachineSetPhase.Failed,
    signal,
  );
  assert.match(status?.spec.error ?? "", /even number/);
  assert.equal(await state.get(ClusterMachineKind, ids[0]!), undefined);
});

test("another Kubernetes version than the one that runs changes nothing, and is told", async () => {
  await cluster("fixed", [await machine()]);
  const status = () => state.waitFor(ClusterStatusKind, "fixed", (found) => found?.spec.available === true, signal);
  await status();
  await state.update(ClusterKind, "fixed", ({ spec }) => {
    spec.kubernetesVersion = "1.35.0";
  });
  const told = await state.waitFor(ClusterProgressKind, "fixed", (found) => !!found?.spec.lastError, signal);
  assert.match(told?.spec.lastError ?? "", /Kubernetes version is not built yet.*stays at 1\.36\.3.*asks for 1\.35\.0/);
  assert.equal((await status())?.spec.kubernetesVersion, "1.36.3");
});

test("clusters get ports of their own, and keep them", async () => {
  await Promise.all(["a", "b", "c"].map((name) => cluster(name, [])));
  const ports = await Promise.all(
    ["a", "b", "c"].map(
      async (name) =>
        (await state.waitFor(LoadBalancerConfigKind, name, (found) => !!found?.spec.bindPort, signal))?.spec.bindPort,
    ),
  );
  assert.equal(new Set(ports).size, 3);
});

test("a cluster of forgotten machines can be destroyed, and leaves nothing", async () => {
  const id = await machine();
  await cluster("gone", [id]);
  await configOf(id);
  // The machine will never be reset: it is forgotten first.
  await state.teardown(LinkKind.key(id), "link");
  await state.waitFor(ClusterMachineKind, id, (found) => found === undefined, signal);
  await state.waitFor(LinkKind, id, (found) => found?.metadata.finalizers.length === 0, signal);
  for (const [kind, key] of [
    [MachineSetNodeKind, id],
    [MachineSetKind, "gone-control-planes"],
    [ClusterKind, "gone"],
  ] as const) {
    await state.teardown(kind.key(key));
    await state.waitFor(kind as typeof ClusterKind, key, (found) => found?.metadata.finalizers.length === 0, signal);
    await state.destroy(kind.key(key));
  }
  await state.waitFor(ClusterSecretsKind, "gone", (found) => found === undefined, signal);
  assert.equal(await state.get(ClusterStatusKind, "gone"), undefined);
});

test("without machines a cluster is scaling up and says what it waits for", async () => {
  const absent = randomUUID();
  await cluster("waiting", [absent]);
  const status = await state.waitFor(
    ClusterStatusKind,
    "waiting",
    (found) => found?.spec.phase === ClusterStatusSpec_Phase.SCALING_UP && found.spec.machines?.requested === 1,
    signal,
  );
  assert.equal(status?.spec.ready, false);
  const progress = await state.waitFor(ClusterProgressKind, "waiting", (found) => !!found?.spec.steps.length, signal);
  assert.match(progress?.spec.steps[0]?.detail ?? "", new RegExp(absent));
});
