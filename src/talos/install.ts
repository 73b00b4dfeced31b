import { IchorError } from "#lib/errors.ts";

/** A disk as Talos tells it (block.Disks). */
export interface Disk {
  /** Device path, `/dev/sda`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly readonly: boolean;
  readonly cdrom: boolean;
  /** `sata`, `nvme`, `usb`, … */
  readonly transport: string;
  /** Made of other disks. */
  readonly composite: boolean;
  readonly systemDisk: boolean;
}

/**
 * Where to install (protocols.md 13.4): the system disk where there is one; else `wanted`; else the smallest disk over 5 GB, USB last,
 * ties by path. Throws `failed_precondition` with what was looked at.
 */
export function chooseInstallDisk(disks: readonly Disk[], wanted?: string): string {
  const system = disks.find((disk) => disk.systemDisk);
  if (system) return system.path;
  if (wanted) {
    if (disks.some(({ path }) => path === wanted)) return wanted;
    throw new IchorError(
      "failed_precondition",
      `the machine has no disk ${wanted}; it has ${disks.map(({ path }) => path).join(", ") || "none"}`,
    );
  }
  const [best] = disks
    .filter((disk) => !disk.readonly && !disk.cdrom && !disk.composite && disk.size > 5e9)
    .sort(
      (a, b) =>
        Number(a.transport === "usb") - Number(b.transport === "usb") || a.size - b.size || (a.path < b.path ? -1 : 1),
    );
  if (best) return best.path;
  throw new IchorError(
    "failed_precondition",
    `the machine has no disk to install on (over 5 GB, writable); it has ${disks.map(({ path, size }) => `${path} (${Math.round(size / 1e9)} GB)`).join(", ") || "none"}`,
  );
}

/** What an installer image is named by. */
export interface InstallImage {
  /** `https://factory.talos.dev`, or its host. */
  readonly factory: string;
  /** Id of the schematic; empty when the machine's image came from elsewhere. */
  readonly schematic: string;
  /** With or without `v`. */
  readonly talosVersion: string;
  /** `metal`, `aws`, …; empty means metal. */
  readonly platform: string;
  readonly secureBoot: boolean;
}

/** The schematic of an image without anything added. */
export const emptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

/** Reference of the installer image (protocols.md 12.3). */
export function installImage({ factory, schematic, talosVersion, platform, secureBoot }: InstallImage): string {
  const tag = `v${talosVersion.replace(/^v/, "")}`;
  if (!schematic) return `ghcr.io/siderolabs/installer:${tag}`;
  const host = factory.replace(/^https?:\/\//, "").replace(/\/$/, "");
  return `${host}/${platform || "metal"}-installer${secureBoot ? "-secureboot" : ""}/${schematic}:${tag}`;
}
