import assert from "node:assert/strict";
import { test } from "node:test";
import { ClusterService } from "#gen/cluster/cluster_pb.ts";
import { State as CosiState } from "#gen/cosi/resource/resource_pb.ts";
import { InspectService } from "#gen/inspect/inspect_pb.ts";
import {
  DebugService,
  ImageService,
  LifecycleService,
  LVMService,
  MachineService,
  MDService,
} from "#gen/machine/machine_pb.ts";
import { StorageService } from "#gen/storage/storage_pb.ts";
import { TimeService } from "#gen/time/time_pb.ts";
import { codeOf } from "#lib/errors.ts";
import type { IndexedMachine } from "./machine-index.ts";
import { allowsMany, isForMachine, isStreaming, rolesFor } from "./talos-methods.ts";

const services = [
  MachineService,
  ImageService,
  LifecycleService,
  DebugService,
  LVMService,
  MDService,
  StorageService,
  TimeService,
  ClusterService,
  InspectService,
  CosiState,
];
const methods = services.flatMap(({ typeName, methods }) => methods.map(({ name }) => `${typeName}/${name}`));

const member: IndexedMachine = {
  id: "id",
  address: "fd00::1",
  cluster: "one",
  controlPlane: true,
  maintenance: false,
  connected: true,
  name: "one-0",
  talosVersion: "v1.13.0",
};
const free: IndexedMachine = { ...member, cluster: "", maintenance: true };

/** All methods by the Talos role that they are called with. */
function byRole(roles: readonly string[], machine: IndexedMachine): Record<string, string[]> {
  const result: Record<string, string[]> = {};
  for (const method of methods) {
    let role: string;
    try {
      role = rolesFor(method, roles, machine).join(",");
    } catch (error) {
      role = codeOf(error);
    }
    result[role] = [...(result[role] ?? []), method.replace("machine.MachineService/", "")];
  }
  return result;
}

const refused = [
  "ApplyConfiguration",
  "Bootstrap",
  "EtcdRemoveMemberByID",
  "EtcdLeaveCluster",
  "EtcdRecover",
  "Kubeconfig",
  "Rollback",
  "Reset",
  "Upgrade",
  "GenerateClientConfiguration",
  "machine.ImageService/Import",
  "machine.ImageService/Remove",
  "machine.LifecycleService/Install",
  "machine.LifecycleService/Upgrade",
  ...["Create", "Update", "Destroy"].map((name) => `cosi.resource.State/${name}`),
];
const elevated = [
  "EtcdForfeitLeadership",
  "EtcdDowngradeValidate",
  "EtcdDowngradeEnable",
  "EtcdDowngradeCancel",
  "MetaWrite",
  "MetaDelete",
  "machine.DebugService/ContainerRun",
  "storage.StorageService/BlockDeviceWipe",
];
const sorted = (list: readonly string[] | undefined) => [...(list ?? [])].sort();
const known = (list: readonly string[]) =>
  list.filter((name) => methods.some((method) => method.replace("machine.MachineService/", "") === name));

test("every method by role", () => {
  for (const role of ["Admin", "Operator", "os:admin", "os:operator"]) {
    const found = byRole([role], member);
    const teardown = methods.filter((method) => /State\/Teardown/.test(method));
    assert.deepEqual(sorted(found.permission_denied), sorted([...known(refused), ...teardown]), role);
    assert.deepEqual(sorted(found["os:admin"]), sorted([...elevated, "Copy", "Read"]), role);
    assert.deepEqual(Object.keys(found).sort(), ["os:admin", "os:operator", "permission_denied"]);
  }
  for (const role of ["Reader", "Auditor", "os:reader"]) {
    const found = byRole([role], member);
    assert.deepEqual(Object.keys(found).sort(), ["os:reader", "permission_denied"], role);
    assert.deepEqual(sorted(found.permission_denied), sorted(byRole(["Admin"], member).permission_denied));
  }
  for (const role of ["None", "InfraProvider", "os:impersonator", "system:masters"])
    assert.deepEqual(Object.keys(byRole([role], member)), ["permission_denied"], role);
});

test("Read and Copy need an administrator from Talos 1.12 on, so that they are not given before", () => {
  for (const [talosVersion, role] of [
    ["v1.11.5", "os:operator"],
    ["v1.12.0", "os:admin"],
    ["", "os:operator"],
  ] as const)
    assert.deepEqual(rolesFor("machine.MachineService/Read", ["Admin"], { ...member, talosVersion }), [role]);
});

test("narrow roles of Talos stay what they are", () => {
  assert.deepEqual(rolesFor("machine.MachineService/EtcdSnapshot", ["os:etcd:backup"], member), ["os:etcd:backup"]);
});

test("without a cluster operators may do all that changes no resource, others nothing", () => {
  const operator = byRole(["Operator"], free);
  assert.deepEqual(Object.keys(operator).sort(), ["", "permission_denied"]);
  assert.ok(operator.permission_denied?.every((method) => method.startsWith("cosi.resource.State/")));
  assert.deepEqual(Object.keys(byRole(["Reader"], free)), ["permission_denied"]);
  const waiting = { ...free, cluster: "one" };
  assert.ok(byRole(["Admin"], waiting).permission_denied?.includes("ApplyConfiguration"), "the plane configures it");
});

test("what goes to a machine, to several, as a stream", () => {
  assert.ok(isForMachine("machine.MachineService", undefined));
  assert.ok(!isForMachine("cosi.resource.State", undefined));
  assert.ok(isForMachine("cosi.resource.State", "Talos"));
  assert.ok(!isForMachine("management.ManagementService", "Talos"));
  assert.ok(allowsMany("time.TimeService/Time"));
  assert.ok(!allowsMany("machine.ImageService/List"));
  for (const name of ["Logs", "Dmesg", "Events", "List", "DiskUsage", "Read", "Copy", "EtcdSnapshot", "PacketCapture"])
    assert.ok(isStreaming(`machine.MachineService/${name}`), name);
  assert.ok(isStreaming("cluster.ClusterService/HealthCheck"));
  assert.ok(!isStreaming("machine.MachineService/Version"));
});
