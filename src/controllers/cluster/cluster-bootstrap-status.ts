import type { Deps } from "#controllers/deps.ts";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterBootstrapStatusKind } from "#kinds/cluster/cluster-bootstrap-status.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineConfigStatusKind } from "#kinds/cluster/cluster-machine-config-status.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { machineError } from "#talos/client.ts";
import { cluster, isControlPlane, members } from "./of-cluster.ts";

/** Annotation: the control plane that etcd is started on; kept before it is told, so that there is never a second one. */
export const bootstrapMachine = "ichor.dev/bootstrap-machine";

/** Starts etcd on exactly one control plane of each cluster, once (protocols.md 5.7). */
export function clusterBootstrapStatusController({ clients }: Deps): Controller {
  return transform({
    name: "cluster-bootstrap-status",
    purpose: "Bootstraps etcd on exactly one control plane of each cluster, once.",
    input: ClusterKind,
    output: ClusterBootstrapStatusKind,
    inputs: [
      { kind: ClusterMachineKind, wakes: cluster },
      { kind: ClusterMachineConfigStatusKind, wakes: cluster },
      { kind: MachineStatusKind, wakes: cluster },
    ],
    concurrency: 16,
    timeout: 60_000,
    async transform(context, { metadata }, current) {
      if (current?.spec.bootstrapped) return false;
      const ready: { id: string; address: string }[] = [];
      const present = new Set<string>();
      for (const machine of await members(context, metadata.id)) {
        const { id, phase } = machine.metadata;
        if (!isControlPlane(machine.metadata) || phase !== "running") continue;
        present.add(id);
        const status = (await context.get(MachineStatusKind, id))?.spec;
        const config = (await context.get(ClusterMachineConfigStatusKind, id))?.spec;
        if (status?.connected && !status.maintenance && config?.clusterMachineConfigSha256)
          ready.push({ id, address: status.managementAddress });
      }
      ready.sort((a, b) => (a.id < b.id ? -1 : 1));
      const intended = current?.metadata.annotations[bootstrapMachine];
      // One that left the cluster was reset: its etcd is gone with it.
      const chosen = intended && present.has(intended) ? ready.find(({ id }) => id === intended) : ready[0];
      if (!chosen) return false;
      await context.modify(ClusterBootstrapStatusKind, metadata.id, ({ annotations }) => {
        annotations[bootstrapMachine] = chosen.id;
      });
      const client = await clients.ofCluster(chosen.address, metadata.id);
      try {
        await client.machine.bootstrap({}, { signal: context.signal, timeoutMs: 30_000 });
      } catch (cause) {
        const error = machineError(cause, `bootstrapping etcd on ${chosen.id}`);
        if (error.code !== "already_exists") throw error;
      } finally {
        client.close();
      }
      return ({ spec }) => {
        spec.bootstrapped = true;
      };
    },
  });
}
