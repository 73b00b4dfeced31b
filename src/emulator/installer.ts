import { sleep } from "#lib/abort.ts";
import { IchorError } from "#lib/errors.ts";
import type { Boot } from "./boot.ts";
import { fillDisks, fillExtensions } from "./facts.ts";
import { release } from "./versions.ts";

/** An image reference taken apart. */
export interface Image {
  readonly repository: string;
  readonly tag: string;
  /** Schematic id, "" for images that no factory made. */
  readonly schematic: string;
}

/** Reads an image reference. Throws `invalid_argument`. */
export function parseImage(reference: string): Image {
  const match =
    /^([a-z0-9.-]+(?::\d+)?(?:\/[a-z0-9._-]+)+)(?::([A-Za-z0-9_.-]{1,128}))?(?:@sha256:[0-9a-f]{64})?$/.exec(reference);
  if (!match?.[1])
    throw new IchorError(
      "invalid_argument",
      `failed to parse image reference "${reference.slice(0, 200)}": invalid reference format`,
    );
  const last = match[1].split("/").at(-1) ?? "";
  return { repository: match[1], tag: match[2] ?? "latest", schematic: /^[0-9a-f]{64}$/.test(last) ? last : "" };
}

/** Pulls an image into the machine's store. Throws `unavailable` when the registry cannot be reached, `invalid_argument` for a bad name. */
export async function pullImage(boot: Boot, reference: string): Promise<{ already: boolean }> {
  parseImage(reference);
  const { disk, delays, clock, knobs } = boot.chassis;
  if (disk.images.includes(reference)) return { already: true };
  if (knobs.registryDown)
    throw new IchorError("unavailable", `failed to pull image "${reference}": dial tcp: i/o timeout`);
  await sleep(delays.pull, clock, boot.signal);
  if (!disk.images.includes(reference)) disk.images.push(reference);
  boot.chassis.save();
  return { already: false };
}

/**
 * Runs an installer image: `progress` gets its output; answers its exit code, never throws for a failing installer. The new system takes
 * effect at the next boot.
 */
export async function runInstaller(
  boot: Boot,
  options: {
    readonly image: string;
    readonly disk: string;
    readonly upgrade: boolean;
    readonly progress: (line: string) => void;
  },
): Promise<number> {
  const { chassis } = boot;
  const image = parseImage(options.image);
  const say = (line: string) => {
    boot.kernel.talos(line);
    options.progress(line);
  };
  say(`running Talos installer ${image.tag}`);
  let target: ReturnType<typeof release>;
  try {
    target = release(image.tag);
  } catch {
    say(`error: unsupported installer version ${image.tag}`);
    return boot.chassis.release.minor >= 14 ? 3 : 1;
  }
  const disk = chassis.hardware.disks.find((candidate) => candidate.path === options.disk);
  if (!disk) {
    say(`error: disk ${options.disk} does not exist`);
    return chassis.release.minor >= 14 ? 2 : 1;
  }
  if (options.upgrade && !acceptsUpgrade(chassis.release.minor, target.minor)) {
    say(
      `error: pre-flight checks failed: host version ${chassis.release.tag} is too old to upgrade to Talos ${image.tag}`,
    );
    return chassis.release.minor >= 14 ? 3 : 1;
  }
  const steps = options.upgrade
    ? ["upgrading Talos in place", `copying kernel and initramfs for ${image.tag}`, "updating boot entries"]
    : [
        `creating new partition table on ${disk.path}`,
        "creating partitions EFI, META, STATE, EPHEMERAL",
        "installing sd-boot",
      ];
  for (const step of steps) {
    await sleep((chassis.delays.install / steps.length) * (chassis.knobs.slowInstall ?? 1), chassis.clock, boot.signal);
    if (chassis.knobs.diskFull) {
      say(`error: failed to write: no space left on device`);
      return chassis.release.minor >= 14 ? 6 : 1;
    }
    say(step);
  }
  say(`installation of ${target.tag} complete`);
  chassis.disk.installed = {
    disk: disk.path,
    tag: target.tag,
    image: options.image,
    schematic: image.schematic || chassis.schematic,
  };
  boot.flush();
  if (!options.upgrade) fillDisks(boot.state, { hardware: chassis.hardware, installedDisk: disk.path });
  if (image.schematic) fillExtensions(boot.state, { extensions: chassis.extensions, schematic: chassis.schematic });
  return 0;
}

/** The installer of minor `to` accepts hosts up to two minors older, and newer ones up to one (protocols.md 13.1). */
function acceptsUpgrade(from: number, to: number): boolean {
  return from >= to - 2 && from < to + 2;
}

/** The disk that an installation without a chosen disk takes: the smallest that is large enough, USB last. */
export function defaultInstallDisk(boot: Boot): string {
  const fit = boot.chassis.hardware.disks.filter((disk) => disk.bytes > 5e9);
  fit.sort((a, b) => Number(a.transport === "usb") - Number(b.transport === "usb") || a.bytes - b.bytes);
  const [first] = fit;
  if (!first) throw new IchorError("failed_precondition", "no suitable install disk found");
  return first.path;
}
