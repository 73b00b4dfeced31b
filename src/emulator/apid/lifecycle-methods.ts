import type { ServiceImpl } from "@connectrpc/connect";
import { applyConfiguration } from "#emulator/apply.ts";
import { pullImage } from "#emulator/installer.ts";
import { reboot, reset, shutdown, upgrade } from "#emulator/operations.ts";
import type { MachineService } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf, callOf } from "./call.ts";
import { clientConfiguration } from "./client-config.ts";

const maxMetaValue = 256 << 10;

/** Configuration, power, META: what changes a machine. */
export const lifecycleMethods: Partial<ServiceImpl<typeof MachineService>> = {
  applyConfiguration(request, context) {
    const timeout = request.tryModeTimeout;
    const applied = applyConfiguration(bootOf(context), {
      data: request.data,
      mode: request.mode,
      dryRun: request.dryRun,
      tryTimeout: timeout ? Number(timeout.seconds) * 1000 + timeout.nanos / 1e6 : 60_000,
    });
    return { messages: [{ warnings: [...applied.warnings], mode: applied.mode, modeDetails: applied.details }] };
  },
  version(_, context) {
    const { release, hardware } = bootOf(context).chassis;
    return {
      messages: [
        {
          version: {
            tag: release.tag,
            sha: "5dee4a1",
            built: "",
            goVersion: "go1.26.3",
            os: "linux",
            arch: hardware.board.arch,
          },
          platform: { name: "metal", mode: "metal" },
          features: { rbac: true },
        },
      ],
    };
  },
  reboot(request, context) {
    const boot = bootOf(context);
    if (request.mode > (boot.chassis.release.minor >= 12 ? 2 : 1))
      throw new IchorError("invalid_argument", "unknown reboot mode");
    return { messages: [{ actorId: reboot(boot) }] };
  },
  shutdown(_, context) {
    return { messages: [{ actorId: shutdown(bootOf(context)) }] };
  },
  reset(request, context) {
    const modes = ["all", "system-disk", "user-disks"] as const;
    const mode = modes[request.mode];
    if (!mode) throw new IchorError("invalid_argument", "unknown wipe mode");
    const labels = request.systemPartitionsToWipe
      .filter((partition) => partition.wipe)
      .map((partition) => partition.label);
    if (mode === "user-disks" && request.userDisksToWipe.length === 0)
      throw new IchorError(
        "invalid_argument",
        "reset failed: invalid input, wipe mode USER_DISKS requires user disks to wipe",
      );
    return {
      messages: [
        { actorId: reset(bootOf(context), { graceful: request.graceful, reboot: request.reboot, labels, mode }) },
      ],
    };
  },
  async upgrade(request, context) {
    const { image, stage, force, preserve } = request;
    const actorId = await upgrade(bootOf(context), { image, stage, force, preserve });
    return { messages: [{ ack: "Upgrade request received", actorId }] };
  },
  async imagePull(request, context) {
    await pullImage(bootOf(context), request.reference);
    return { messages: [{}] };
  },
  metaWrite(request, context) {
    if (request.key > 255) throw new IchorError("invalid_argument", "key must be a uint8");
    if (request.value.length > maxMetaValue) throw new IchorError("invalid_argument", "value is too large");
    bootOf(context).setMeta(request.key, Buffer.from(request.value).toString("utf8"));
    return { messages: [{}] };
  },
  metaDelete(request, context) {
    if (request.key > 255) throw new IchorError("invalid_argument", "key must be a uint8");
    if (!bootOf(context).setMeta(request.key, undefined)) throw new IchorError("not_found", "meta key not found");
    return { messages: [{}] };
  },
  async generateClientConfiguration(request, context) {
    const ttl = request.crtTtl;
    const made = await clientConfiguration(
      callOf(context).boot,
      request.roles,
      ttl ? Number(ttl.seconds) * 1000 : undefined,
    );
    return { messages: [made] };
  },
};
