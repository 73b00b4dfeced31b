import type { ServiceImpl } from "@connectrpc/connect";
import type { Cluster } from "#emulator/cluster.ts";
import type { ClusterService } from "#gen/cluster/cluster_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** `talosctl health`: says what it checks, fails at the first that does not hold. */
export const clusterService: Partial<ServiceImpl<typeof ClusterService>> = {
  async *healthCheck(_, context) {
    const { cluster } = bootOf(context);
    if (!cluster) throw new IchorError("failed_precondition", "the machine is not part of a cluster");
    const nodes = await nodeCount(cluster, context.signal);
    const checks: [string, boolean][] = [
      ["etcd to be healthy", cluster.etcd.quorum],
      [
        "etcd members to be consistent across nodes",
        cluster.etcd.members.every((member) => cluster.etcd.isRunning(member.id)),
      ],
      ["apid to be ready", cluster.peers.every((peer) => peer.apidTls !== undefined)],
      ["all nodes to finish boot sequence", cluster.peers.every((peer) => peer.stage === "running")],
      ["all k8s nodes to report", nodes >= cluster.peers.length],
    ];
    for (const [what, holds] of checks) {
      yield { message: `waiting for ${what}: ...` };
      if (!holds) throw new IchorError("unavailable", `healthcheck error: ${what}: not yet`);
      yield { message: `waiting for ${what}: OK` };
    }
  },
};

/** How many nodes Kubernetes knows; none while it does not answer. */
async function nodeCount(cluster: Cluster, signal: AbortSignal): Promise<number> {
  if (!cluster.real) return cluster.objects.list("/nodes").length;
  const answer = await cluster.real.admin?.request(signal, "GET", "/api/v1/nodes").catch(() => undefined);
  return (answer?.body as { items?: unknown[] } | undefined)?.items?.length ?? 0;
}
