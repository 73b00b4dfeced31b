import type { ServiceImpl } from "@connectrpc/connect";
import type { Boot } from "#emulator/boot.ts";
import { runInstaller } from "#emulator/installer.ts";
import { lock } from "#emulator/operations.ts";
import type { LifecycleService } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** Installing and upgrading step by step (1.13 on): never pulls, never reboots; a failed installer is an exit code. */
export const lifecycleService: Partial<ServiceImpl<typeof LifecycleService>> = {
  async *install(request, context) {
    const boot = bootOf(context);
    const { disk } = boot.chassis;
    if (disk.installed) throw new IchorError("already_exists", "Talos is already installed");
    const target = request.destination?.disk ?? "";
    if (!target) throw new IchorError("invalid_argument", "install disk is required");
    for await (const progress of run(boot, request.source?.imageName ?? "", target, false)) yield { progress };
  },
  async *upgrade(request, context) {
    const boot = bootOf(context);
    const { installed } = boot.chassis.disk;
    if (!installed) throw new IchorError("failed_precondition", "Talos is not installed");
    for await (const progress of run(boot, request.source?.imageName ?? "", installed.disk, true)) yield { progress };
  },
};

async function* run(boot: Boot, image: string, disk: string, upgrade: boolean) {
  if (!image) throw new IchorError("invalid_argument", "source image name is required");
  if (!boot.chassis.disk.images.includes(image)) throw new IchorError("not_found", `image "${image}": not found`);
  const release = lock(boot, upgrade ? "upgrade" : "install");
  try {
    const lines: string[] = [];
    let wake = Promise.withResolvers<void>();
    let code: number | undefined;
    const done = runInstaller(boot, {
      image,
      disk,
      upgrade,
      progress: (line) => {
        lines.push(line);
        wake.resolve();
      },
    }).then(
      (result) => {
        code = result;
      },
      () => {
        code = 1;
      },
    );
    done.finally(() => wake.resolve());
    while (code === undefined || lines.length > 0) {
      for (const line of lines.splice(0)) yield { response: { case: "message" as const, value: `${line}\n` } };
      if (code === undefined) {
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
    }
    if (code === 0 && boot.config?.complete) {
      boot.chassis.disk.config = boot.config.text;
      boot.flush();
    }
    yield { response: { case: "exitCode" as const, value: code } };
  } finally {
    release();
  }
}
