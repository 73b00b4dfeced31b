import { gzipSync } from "node:zlib";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Boot } from "#emulator/boot.ts";
import { adminKubeconfig } from "#emulator/kubeapi/kubeconfig.ts";
import { types } from "#emulator/state/types.ts";
import type { MachineService } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";
import { uptime } from "./stat-methods.ts";

/** The few files that the emulator has. */
export const fileMethods: Partial<ServiceImpl<typeof MachineService>> = {
  async *read(request, context) {
    const content = files(bootOf(context)).get(clean(request.path));
    if (content === undefined) throw new IchorError("not_found", `stat ${request.path}: no such file or directory`);
    yield { bytes: Buffer.from(content) };
  },
  async *list(request, context) {
    const boot = bootOf(context);
    const root = clean(request.root || "/");
    const all = files(boot);
    const prefix = root === "/" ? "/" : `${root}/`;
    const seen = new Map<string, { dir: boolean; size: number }>();
    if (all.has(root)) seen.set(root, { dir: false, size: all.get(root)!.length });
    const depth = request.recurse ? request.recursionDepth || 32 : 1;
    for (const [path, content] of all) {
      if (!path.startsWith(prefix)) continue;
      const parts = path.slice(prefix.length).split("/");
      for (let at = 1; at <= Math.min(parts.length, depth); at++) {
        const dir = at < parts.length;
        seen.set(prefix + parts.slice(0, at).join("/"), { dir, size: dir ? 0 : content.length });
      }
    }
    if (seen.size === 0) throw new IchorError("not_found", `lstat ${request.root}: no such file or directory`);
    if (!seen.has(root)) yield fileInfo(root, ".", true, 0, boot);
    for (const [path, { dir, size }] of [...seen].sort(([a], [b]) => (a < b ? -1 : 1)))
      yield fileInfo(path, path.slice(prefix.length) || path, dir, size, boot);
  },
  async *kubeconfig(_, context) {
    const boot = bootOf(context);
    if (!boot.config?.controlPlane)
      throw new IchorError("unimplemented", "kubeconfig is only available on control plane nodes");
    yield { bytes: gzipSync(tar("kubeconfig", Buffer.from(await adminKubeconfig(boot)))) };
  },
};

function files(boot: Boot): Map<string, string> {
  const cmdline = boot.state.get(types.cmdline, "cmdline");
  const { cpu } = boot.chassis.hardware.board;
  return new Map([
    ["/proc/sys/kernel/random/boot_id", `${boot.bootId}\n`],
    ["/proc/uptime", `${uptime(boot).toFixed(2)} ${(uptime(boot) * cpu.threads * 0.93).toFixed(2)}\n`],
    ["/proc/version", `Linux version ${boot.chassis.release.kernel} #1 SMP PREEMPT_DYNAMIC\n`],
    [
      "/proc/cmdline",
      cmdline
        ? `${cmdline
            .yaml()
            .replace(/^cmdline:\s*/, "")
            .trim()}\n`
        : "\n",
    ],
    ["/etc/hostname", `${boot.hostname}\n`],
    [
      "/etc/os-release",
      `NAME="Talos"\nID=talos\nVERSION_ID=${boot.chassis.release.tag}\nPRETTY_NAME="Talos (${boot.chassis.release.tag})"\n`,
    ],
    ["/sys/class/dmi/id/product_uuid", `${boot.chassis.hardware.uuid}\n`],
    ["/sys/class/dmi/id/product_name", `${boot.chassis.hardware.board.product}\n`],
  ]);
}

function clean(path: string): string {
  return path.length > 1 ? path.replace(/\/+/g, "/").replace(/\/$/, "") : path;
}

function fileInfo(name: string, relativeName: string, isDir: boolean, size: number, boot: Boot) {
  return {
    name,
    relativeName,
    isDir,
    size: BigInt(size),
    mode: isDir ? 0x800001ed : 0o444,
    modified: BigInt(Math.floor(boot.started / 1000)),
  };
}

/** A tar archive (POSIX ustar) with one file. */
export function tar(name: string, content: Uint8Array): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, "0")}\0`;
  header.write(name, 0);
  header.write(octal(0o600, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(content.length, 12), 124);
  header.write(octal(0, 12), 136);
  header.write("        ", 148);
  header.write("0", 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, content, Buffer.alloc(((512 - (content.length % 512)) % 512) + 1024)]);
}
