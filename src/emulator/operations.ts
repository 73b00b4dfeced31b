import { sleep } from "#lib/abort.ts";
import { IchorError } from "#lib/errors.ts";
import type { Boot, Stage } from "./boot.ts";
import { wipeDisks } from "./disk.ts";
import { fillDisks } from "./facts.ts";
import { parseImage, pullImage, runInstaller } from "./installer.ts";
import { xid } from "./join/events.ts";

/** Starts a sequence that ends the boot, after the caller was answered. Answers the actor id. Throws `failed_precondition` when busy. */
export function startEnding(
  boot: Boot,
  name: string,
  stage: Stage,
  body: () => Promise<void>,
  then: "reboot" | "shutdown",
): string {
  const release = lock(boot, name);
  const actor = xid(boot.chassis.clock.now());
  const run = async () => {
    await sleep(boot.chassis.delays.grace, boot.chassis.clock, boot.signal);
    boot.setStage(stage);
    await boot.sequence(
      name,
      async () => {
        await body();
        await boot.phase("stopServices", ["stopAllServices"]);
        boot.services.stopAll();
      },
      actor,
    );
    await boot.drain();
    boot.end(then);
  };
  run().catch((error) => {
    boot.chassis.log.debug({ error }, "sequence failed");
    release();
    if (!boot.signal.aborted) boot.setStage(boot.maintenance ? "maintenance" : "running");
  });
  return actor;
}

/** One sequence at a time. Throws `failed_precondition`. */
export function lock(boot: Boot, name: string): () => void {
  if (boot.busy) throw new IchorError("failed_precondition", `sequence "${boot.busy}" is in progress: locked`);
  boot.busy = name;
  return () => {
    boot.busy = undefined;
  };
}

/** Reboots. */
export function reboot(boot: Boot): string {
  return startEnding(boot, "reboot", "rebooting", async () => boot.phase("cleanup", ["stopAllPods"]), "reboot");
}

/** Powers off: the machine stays off until it is switched on. */
export function shutdown(boot: Boot): string {
  return startEnding(boot, "shutdown", "shuttingDown", async () => boot.phase("cleanup", ["stopAllPods"]), "shutdown");
}

/** What a Reset is asked to do. */
export interface ResetOptions {
  readonly graceful: boolean;
  readonly reboot: boolean;
  /** Empty: everything. */
  readonly labels: readonly string[];
  readonly mode: "all" | "system-disk" | "user-disks";
}

/** Wipes and reboots or powers off (protocols.md 5.8). Throws `invalid_argument` for unknown partitions. */
export function reset(boot: Boot, options: ResetOptions): string {
  const { disk, release, hardware } = boot.chassis;
  const known = [
    "STATE",
    "EPHEMERAL",
    "META",
    "EFI",
    ...(release.minor >= 14 ? ["CRI", "KUBELET", "ETCD", "LOG"] : []),
  ];
  const unknown = options.labels.find((label) => !known.includes(label));
  if (unknown) throw new IchorError("invalid_argument", `failed to find partition with label "${unknown}"`);
  const { cluster } = boot;
  const body = async () => {
    if (options.graceful && cluster) {
      await boot.phase("drain", ["cordonAndDrainNode"]);
      const member = disk.etcd?.member;
      if (member && cluster.etcd.get(member)) {
        await boot.phase("leave", ["leaveEtcd"]);
        cluster.etcd.remove(member);
      }
      disk.etcd = undefined;
    }
    await boot.phase("reset", ["resetSystemDisk"]);
    if (options.mode === "user-disks") return;
    const { etcd } = disk;
    wipeDisks(disk, options.labels);
    if (etcd && !disk.etcd) boot.chassis.clusters.lose(etcd);
    if (disk.installed) disk.meta = Object.fromEntries([...boot.meta].map(([key, value]) => [String(key), value]));
    boot.chassis.save();
    fillDisks(boot.state, { hardware, installedDisk: disk.installed?.disk });
  };
  return startEnding(boot, "reset", "resetting", body, options.reboot ? "reboot" : "shutdown");
}

/** The legacy upgrade: pulls, answers, runs the installer and reboots; a staged one reboots first, and again after its installer. */
export async function upgrade(
  boot: Boot,
  options: { image: string; stage: boolean; force: boolean; preserve: boolean },
): Promise<string> {
  const { disk, release } = boot.chassis;
  parseImage(options.image);
  if (boot.maintenance && release.minor <= 12 && (options.preserve || options.stage || options.force))
    throw new IchorError("unimplemented", "preserve, stage and force are not supported in maintenance mode");
  if (!disk.installed) throw new IchorError("failed_precondition", "Talos is not installed");
  if (!options.force && boot.cluster && disk.etcd && !boot.cluster.etcd.quorum)
    throw new IchorError("failed_precondition", "error validating etcd for upgrade: etcd cluster has no quorum");
  await pullImage(boot, options.image);
  if (options.stage) {
    disk.upgrade = options.image;
    boot.chassis.save();
    return startEnding(boot, "stageUpgrade", "upgrading", async () => {}, "reboot");
  }
  const target = disk.installed.disk;
  const body = async () => {
    const code = await runInstaller(boot, { image: options.image, disk: target, upgrade: true, progress: () => {} });
    if (code !== 0) throw new Error(`task upgrade failed: installer exited with code ${code}`);
  };
  return startEnding(boot, boot.maintenance ? "maintenanceUpgrade" : "upgrade", "upgrading", body, "reboot");
}
