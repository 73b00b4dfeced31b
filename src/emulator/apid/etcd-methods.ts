import { createHash } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import type { EtcdMember } from "#emulator/etcd.ts";
import { bootstrapEtcd } from "#emulator/node/etcd-service.ts";
import type { MachineService } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** etcd as one member sees it (protocols.md 5.7). */
export const etcdMethods: Partial<ServiceImpl<typeof MachineService>> = {
  bootstrap(request, context) {
    bootstrapEtcd(bootOf(context), { recover: request.recoverEtcd });
    return { messages: [{}] };
  },
  etcdMemberList(_, context) {
    const { cluster } = local(bootOf(context));
    const members = cluster.etcd.members.map((member) => ({
      id: BigInt(member.id),
      hostname: member.name,
      peerUrls: [member.peerURL],
      clientUrls: [member.clientURL],
      isLearner: member.learner,
    }));
    return { messages: [{ legacyMembers: members.map((member) => member.hostname), members }] };
  },
  etcdStatus(_, context) {
    const { cluster, member, boot } = local(bootOf(context));
    const size = BigInt(2_400_000 + cluster.objects.version * 900);
    return {
      messages: [
        {
          memberStatus: {
            protocolVersion: boot.chassis.release.etcd,
            storageVersion: boot.chassis.release.etcd.split(".").slice(0, 2).concat("0").join("."),
            dbSize: size,
            dbSizeInUse: (size * 7n) / 10n,
            leader: BigInt(cluster.etcd.leader ?? 0),
            raftIndex: BigInt(cluster.etcd.index),
            raftTerm: BigInt(cluster.etcd.term),
            raftAppliedIndex: BigInt(cluster.etcd.index),
            errors: cluster.etcd.leader ? [] : ["etcdserver: no leader"],
            isLearner: member.learner,
            memberId: BigInt(member.id),
          },
        },
      ],
    };
  },
  etcdAlarmList(_, context) {
    local(bootOf(context));
    return { messages: [{ memberAlarms: [] }] };
  },
  etcdAlarmDisarm(_, context) {
    local(bootOf(context));
    return { messages: [{ memberAlarms: [] }] };
  },
  etcdDefragment(_, context) {
    local(bootOf(context));
    return { messages: [{}] };
  },
  etcdForfeitLeadership(_, context) {
    const { cluster, member } = local(bootOf(context));
    return { messages: [{ member: cluster.etcd.forfeit(member.id)?.name ?? "" }] };
  },
  etcdLeaveCluster(_, context) {
    const { boot, cluster, member } = local(bootOf(context));
    cluster.etcd.forfeit(member.id);
    cluster.etcd.remove(member.id);
    boot.chassis.disk.etcd = undefined;
    boot.chassis.save();
    boot.services.set("etcd", "Finished", "Service finished successfully");
    return { messages: [{}] };
  },
  etcdRemoveMemberByID(request, context) {
    const { cluster, member } = local(bootOf(context));
    if (request.memberId.toString() === member.id)
      throw new IchorError("invalid_argument", "cannot remove self from the cluster, use leave instead");
    cluster.etcd.remove(request.memberId.toString());
    return { messages: [{}] };
  },
  async *etcdSnapshot(_, context) {
    const { cluster } = local(bootOf(context));
    if (cluster.real) {
      for await (const bytes of cluster.real.snapshot(context.signal)) yield { bytes };
      return;
    }
    const content = Buffer.from(JSON.stringify(cluster.objects.save()));
    for (let at = 0; at < content.length; at += 65_536) yield { bytes: content.subarray(at, at + 65_536) };
    yield { bytes: createHash("sha256").update(content).digest() };
  },
};

/** The machine's own member. Throws `invalid_argument` on workers, `failed_precondition` while etcd does not run. */
function local(boot: Boot): { boot: Boot; cluster: Cluster; member: EtcdMember } {
  if (boot.config && !boot.config.controlPlane)
    throw new IchorError("invalid_argument", "etcd is only available on control plane nodes");
  const { cluster } = boot;
  const id = boot.chassis.disk.etcd?.member;
  const member = id === undefined ? undefined : cluster?.etcd.get(id);
  if (!cluster || !member || !cluster.etcd.isRunning(member.id))
    throw new IchorError("failed_precondition", "etcd service is not running");
  return { boot, cluster, member };
}
