import { abortable, sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import { messageOf } from "#lib/errors.ts";
import { configureApid, maintenanceContext } from "./apid/certificates.ts";
import { Boot, type Chassis, type Stage } from "./boot.ts";
import { wipeDisks } from "./disk.ts";
import { defaultInstallDisk, pullImage, runInstaller } from "./installer.ts";
import { runNode } from "./node/sequence.ts";
import { lock } from "./operations.ts";
import { release } from "./versions.ts";

/** A machine: boots, runs, reboots, until it is stopped for good. */
export class Machine {
  readonly #chassis: Chassis;
  readonly #stopped = new AbortController();
  #power = Promise.withResolvers<void>();
  #done: Promise<void> = Promise.resolve();
  /** The boot under way; undefined while it is off. */
  boot: Boot | undefined;

  constructor(chassis: Chassis) {
    this.#chassis = chassis;
  }
  /** SMBIOS UUID. */
  get uuid(): string {
    return this.#chassis.hardware.uuid;
  }
  /** Where its boot stands; "off" while it has none. */
  get stage(): Stage | "off" {
    return this.boot?.stage ?? "off";
  }
  get chassis(): Chassis {
    return this.#chassis;
  }
  /** Switches it on: for the first time, or after a shutdown. */
  start(): void {
    this.#power.resolve();
    if (this.#chassis.disk.off) {
      this.#chassis.disk.off = false;
      this.#chassis.save();
    }
    if (this.boot || this.#stopped.signal.aborted) return;
    this.#done = this.#done.then(() => this.#run());
  }
  /** Takes the power away, now; disks keep what they have. `start` brings it back. */
  powerLoss(): void {
    this.boot?.end("power-loss");
  }
  /** Presses reset: as a power loss, and on again. */
  powerCycle(): void {
    this.boot?.end("reboot");
  }
  /** Empties the disks, as someone who takes them out would. Takes effect at the next boot. */
  wipe(): void {
    const { etcd } = this.#chassis.disk;
    wipeDisks(this.#chassis.disk, []);
    if (etcd) this.#chassis.clusters.lose(etcd);
    this.#chassis.save();
  }
  /** Stops the emulation of it; its disks stay. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error("emulator stops"));
    this.boot?.end("power-loss");
    this.#power.resolve();
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const { disk } = this.#chassis;
      disk.boots++;
      const current = disk.installed ? release(disk.installed.tag) : this.#chassis.release;
      const boot = new Boot({ ...this.#chassis, release: current });
      this.boot = boot;
      live(boot).catch((error) => {
        if (!boot.signal.aborted)
          this.#chassis.log.warn({ machine: this.uuid, error: messageOf(error) }, "machine failed");
      });
      const ending = await boot.ended;
      this.boot = undefined;
      this.#chassis.save();
      if (ending === "reboot") continue;
      if (ending === "shutdown") {
        disk.off = true;
        this.#chassis.save();
      }
      this.#power = Promise.withResolvers<void>();
      await abortable(this.#power.promise, this.#stopped.signal).catch(() => {});
    }
  }
}

/** One boot, from firmware to whatever its configuration makes of it. */
async function live(boot: Boot): Promise<void> {
  await boot.initialize();
  if (boot.chassis.disk.installed && boot.chassis.disk.upgrade)
    return stagedUpgrade(boot, boot.chassis.disk.installed.disk);
  if (boot.maintenance) {
    boot.apidTls = { context: await maintenanceContext(), clientCAs: undefined };
    boot.services.run("apid");
    boot.setStage("maintenance");
    boot.kernel.talos("this machine is reachable at: waiting for a configuration");
    await boot.configured();
    boot.kernel.talos("configuration applied, leaving maintenance");
  }
  // From here on clients must show a certificate.
  boot.apidTls = undefined;
  const { disk, release: running } = boot.chassis;
  if (!disk.installed && boot.config?.install) {
    await install(boot);
    return;
  }
  if (disk.installed && boot.config && disk.config !== boot.config.text) {
    disk.config = boot.config.text;
    boot.flush();
  }
  if (!disk.installed)
    boot.setUnmet("systemDisk", `Talos ${running.tag} is not installed: waiting for the installation`);
  boot.setStage("booting");
  configureApid(boot);
  await runNode(boot);
}

/** The upgrade that was put off to this boot: runs its installer, and reboots whether that worked or not. It is tried once. */
async function stagedUpgrade(boot: Boot, target: string): Promise<void> {
  const { disk } = boot.chassis;
  const image = disk.upgrade ?? "";
  disk.upgrade = undefined;
  boot.chassis.save();
  lock(boot, "upgrade");
  boot.setStage("upgrading");
  if (!boot.maintenance) configureApid(boot);
  try {
    await boot.sequence("upgrade", async () => {
      const code = await runInstaller(boot, { image, disk: target, upgrade: true, progress: () => {} });
      if (code !== 0) throw new Error(`task upgrade failed: installer exited with code ${code}`);
    });
  } catch {
    boot.signal.throwIfAborted();
  }
  await boot.drain();
  boot.end("reboot");
}

/** The install sequence of a configuration with install instructions: pulls, installs, reboots; after a failure tries again at the next boot. */
async function install(boot: Boot): Promise<void> {
  const { config, chassis } = boot;
  if (!config?.install) return;
  const { disk: path, image } = config.install;
  lock(boot, "install");
  boot.setStage("installing");
  configureApid(boot);
  let ok = false;
  try {
    await boot.sequence("install", async () => {
      await boot.phase("validateConfig", ["validateConfig"]);
      const reference = image || `ghcr.io/siderolabs/installer:${chassis.release.tag}`;
      await boot.phase("install", ["install"], async () => {
        for (let attempt = 0; ; attempt++) {
          try {
            await pullImage(boot, reference);
            break;
          } catch (error) {
            boot.signal.throwIfAborted();
            boot.kernel.write(`[talos] error pulling image: ${messageOf(error)}`, "user", "err");
            if (attempt === 5) throw error;
            await sleep(
              backoffDelay(attempt, { initial: chassis.delays.retry, max: chassis.delays.retryMax }),
              chassis.clock,
              boot.signal,
            );
          }
        }
        const code = await runInstaller(boot, {
          image: reference,
          disk: path || defaultInstallDisk(boot),
          upgrade: false,
          progress: () => {},
        });
        if (code !== 0) throw new Error(`task install failed: installer exited with code ${code}`);
      });
    });
    ok = true;
  } catch {
    boot.signal.throwIfAborted();
  }
  if (ok) {
    chassis.disk.config = config.text;
    boot.flush();
  }
  boot.setStage("rebooting");
  boot.kernel.talos(ok ? "installation done: rebooting" : "installation failed: rebooting");
  if (!ok) await sleep(chassis.delays.retry * 10, chassis.clock, boot.signal);
  await boot.drain();
  boot.end("reboot");
}
