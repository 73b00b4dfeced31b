import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import { types } from "#emulator/state/types.ts";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import { IchorError } from "#lib/errors.ts";

/** Bootstrap of protocols.md 5.7: makes this machine the first member. */
export function bootstrapEtcd(boot: Boot, options: { readonly recover: boolean }): void {
  const { config, cluster, chassis } = boot;
  if (boot.maintenance || !cluster) throw new IchorError("failed_precondition", "bootstrap is not available yet");
  if (!config?.controlPlane)
    throw new IchorError("invalid_argument", "bootstrap can only be performed on a control plane node");
  if (chassis.knobs.clockOffset) throw new IchorError("failed_precondition", "time is not in sync yet");
  if (chassis.disk.etcd) throw new IchorError("already_exists", "etcd data directory is not empty");
  if (!boot.services.get("etcd")) throw new IchorError("failed_precondition", "bootstrap is not available yet");
  if (options.recover)
    throw new IchorError("failed_precondition", "etcd snapshot is not uploaded: EtcdRecover is not emulated");
  // Said first: a plane that asks two control planes shows in the logs of both.
  boot.kernel.talos("bootstrapping etcd cluster");
  // Another control plane may have data already: a real one would start a second cluster beside it; so does etcd.bootstrap refuse.
  const member = cluster.etcd.bootstrap(newMember(boot));
  chassis.disk.etcd = { cluster: cluster.id, member: member.id };
  chassis.save();
  cluster.touch();
}

/** Runs the etcd service of a control plane until the boot ends; calls `healthy` each time that it works with a quorum, or no longer does. */
export async function runEtcd(boot: Boot, cluster: Cluster, healthy: (is: boolean) => void): Promise<void> {
  const { disk, clock, delays } = boot.chassis;
  for (let attempt = 0; !boot.signal.aborted; attempt++) {
    boot.services.set(
      "etcd",
      "Preparing",
      "Running pre state: waiting to join the cluster; if this is the first node, run bootstrap",
    );
    boot.setUnmet("etcd", "etcd is not healthy");
    await until(boot, cluster, () => disk.etcd !== undefined || cluster.etcd.quorum);
    if (disk.etcd && !cluster.etcd.get(disk.etcd.member)) {
      boot.services.set("etcd", "Failed", "etcd: the member has been permanently removed from the cluster", false);
      await sleep(backoffDelay(attempt, { initial: delays.retry, max: delays.retryMax }), clock, boot.signal);
      continue;
    }
    if (!disk.etcd) {
      try {
        const member = cluster.etcd.join(newMember(boot));
        disk.etcd = { cluster: cluster.id, member: member.id };
        boot.chassis.save();
      } catch {
        await sleep(backoffDelay(attempt, { initial: delays.retry, max: delays.retryMax }), clock, boot.signal);
        continue;
      }
    }
    await runMember(boot, cluster, disk.etcd.member, healthy);
    attempt = 0;
    await until(boot, cluster, () => boot.services.get("etcd")?.state !== "Finished" || disk.etcd !== undefined);
  }
}

async function runMember(boot: Boot, cluster: Cluster, id: string, healthy: (is: boolean) => void): Promise<void> {
  boot.services.set("etcd", "Running", "Started task etcd", false);
  boot.state.put(types.etcdMember, "local", { memberId: BigInt(id).toString(16).padStart(16, "0") });
  boot.state.put(types.etcdPki, "etcd", { ready: true, version: "1" });
  const stop = () => cluster.etcd.setRunning(id, false);
  boot.signal.addEventListener("abort", stop, { once: true });
  cluster.etcd.setRunning(id, true);
  let was = false;
  try {
    for (;;) {
      const is = cluster.etcd.quorum && boot.services.get("etcd")?.state === "Running";
      if (is !== was) {
        was = is;
        boot.services.set(
          "etcd",
          "Running",
          is ? "Health check successful" : "Health check failed: context deadline exceeded",
          is,
        );
        boot.setUnmet("etcd", is ? undefined : "etcd is not healthy");
        healthy(is);
      }
      await until(boot, cluster, () => cluster.etcd.quorum !== was || !cluster.etcd.get(id));
      if (!cluster.etcd.get(id)) return;
    }
  } finally {
    boot.signal.removeEventListener("abort", stop);
    if (was) healthy(false);
    cluster.etcd.setRunning(id, false);
    boot.state.remove(types.etcdMember, "local");
  }
}

function newMember(boot: Boot) {
  const address = boot.chassis.hardware.lan.address;
  return {
    name: boot.hostname,
    machine: boot.uuid,
    peerURL: `https://${address}:2380`,
    clientURL: `https://${address}:2379`,
  };
}

/** Waits for a condition on the cluster's etcd; rejects when the boot ends. */
async function until(boot: Boot, cluster: Cluster, holds: () => boolean): Promise<void> {
  if (holds()) return;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const check = () => holds() && resolve();
  const off = cluster.onChange(check);
  const stop = () => reject(boot.signal.reason);
  boot.signal.addEventListener("abort", stop, { once: true });
  check();
  try {
    await promise;
  } finally {
    off();
    boot.signal.removeEventListener("abort", stop);
  }
}
