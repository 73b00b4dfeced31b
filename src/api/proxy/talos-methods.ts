import { ClusterService } from "#gen/cluster/cluster_pb.ts";
import { InspectService } from "#gen/inspect/inspect_pb.ts";
import { MachineService } from "#gen/machine/machine_pb.ts";
import { StorageService } from "#gen/storage/storage_pb.ts";
import { TimeService } from "#gen/time/time_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { atLeast } from "#talos/version.ts";
import type { IndexedMachine } from "./machine-index.ts";

/** Services of a machine that go through the plane without asking; `cosi.resource.State` only with `runtime: Talos`. */
const machineServices = /^(machine|cluster|inspect|storage|time)\./;

/** Whether a call is for a machine, not for the plane itself (protocols.md 9.7). `service` without slash. */
export function isForMachine(service: string, runtime: string | undefined): boolean {
  if (/^(auth|config|management|oidc|omni)\./.test(service)) return false;
  return runtime === "Talos" || machineServices.test(service);
}

/** Methods that one call may take to several nodes (protocols.md 5.10). */
export function allowsMany(method: string): boolean {
  return /^(machine\.MachineService\/|cluster\.|inspect\.|storage\.StorageService\/|time\.)/.test(method);
}

const streaming = new Set(
  [MachineService, ClusterService, InspectService, StorageService, TimeService].flatMap((service) =>
    service.methods
      .filter(({ methodKind }) => methodKind === "server_streaming")
      .map(({ name }) => `${service.typeName}/${name}`),
  ),
);

/** Whether a method of {@link allowsMany} answers with a stream. One that we do not know is taken for unary. */
export function isStreaming(method: string): boolean {
  return streaming.has(method);
}

/** What the plane does itself for machines of a cluster: whoever did it past the plane would be undone, or break the cluster. */
const ownedByPlane: Readonly<Record<string, string>> = {
  "machine.MachineService/ApplyConfiguration": "change the cluster template or a config patch and sync it",
  "machine.MachineService/Bootstrap": "the plane bootstraps each cluster once, by itself",
  "machine.MachineService/EtcdRecover": "the plane recovers etcd from a backup when the cluster template says so",
  "machine.MachineService/EtcdLeaveCluster": "take the machine out of the cluster template and sync it",
  "machine.MachineService/EtcdRemoveMemberByID": "take the machine out of the cluster template and sync it",
  "machine.MachineService/Upgrade": "set the Talos version in the cluster template and sync it",
  "machine.MachineService/Rollback": "set the Talos version in the cluster template and sync it",
  "machine.MachineService/Reset": "take the machine out of the cluster template and sync it: the plane resets it",
  "machine.MachineService/Kubeconfig": "use `ichor kubeconfig --cluster NAME`",
  "machine.MachineService/GenerateClientConfiguration": "use `ichor talosconfig`",
  "machine.LifecycleService/Install": "the plane installs machines of clusters by itself",
  "machine.LifecycleService/Upgrade": "set the Talos version in the cluster template and sync it",
  "machine.ImageService/Import": "images of a cluster's machines come from registries",
  "machine.ImageService/Remove": "images are removed by the machine when they are not used",
};

/** For operators these need more than Talos' operator role (protocols.md 9.7). */
const elevated =
  /^(storage\.StorageService\/BlockDeviceWipe|machine\.MachineService\/(EtcdDowngrade\w+|EtcdForfeitLeadership|MetaWrite|MetaDelete)|machine\.DebugService\/ContainerRun)$/;
const elevatedSince112 = /^machine\.MachineService\/(Read|Copy)$/;
const narrow = ["os:etcd:backup", "os:meta:writer", "os:image:verifier"];

/**
 * The Talos roles that a call is made with. `roles` are names of the plane (`Operator`) or of Talos (`os:operator`). Throws
 * `permission_denied`, saying what to do instead where the plane owns the matter.
 */
export function rolesFor(method: string, roles: readonly string[], machine: IndexedMachine): string[] {
  const operator = roles.some((role) => /^(Admin|Operator|os:admin|os:operator)$/.test(role));
  const instead = ownedByPlane[method];
  if (instead !== undefined && machine.cluster !== "") {
    const name = method.replace(/.*\//, "");
    throw new IchorError(
      "permission_denied",
      `${name} is not available through Ichor for machine "${machine.name}" of cluster "${machine.cluster}": ${instead}`,
    );
  }
  if (method.startsWith("cosi.") && !/\/(Get|List|Watch)$/.test(method))
    throw new IchorError("permission_denied", "resources of a machine can only be read");
  if (machine.maintenance) {
    // There the machine knows no roles: whoever reaches it may do all.
    if (!operator)
      throw new IchorError(
        "permission_denied",
        `machine "${machine.name}" runs without a configuration: that needs role Operator`,
      );
    return [];
  }
  if (operator) {
    const since112 = elevatedSince112.test(method) && isAtLeast112(machine.talosVersion);
    return elevated.test(method) || since112 ? ["os:admin"] : ["os:operator"];
  }
  const kept = roles.filter((role) => narrow.includes(role));
  if (roles.some((role) => /^(Reader|Auditor|os:reader)$/.test(role))) kept.push("os:reader");
  if (kept.length === 0) throw new IchorError("permission_denied", `no role gives access to machine "${machine.name}"`);
  return kept.sort();
}

/** Where the version is not known yet the narrower answer holds. */
function isAtLeast112(version: string): boolean {
  try {
    return atLeast(version, 1, 12);
  } catch {
    return false;
  }
}
