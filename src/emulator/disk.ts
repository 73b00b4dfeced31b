/** What survives a reboot: the firmware's and the disks' content. Plain data, so that it can be saved as JSON. */
export interface DiskState {
  /** Talos on disk. */
  installed?: { disk: string; tag: string; image: string; schematic: string } | undefined;
  /** META partition: an image to upgrade to at the next boot. */
  upgrade?: string | undefined;
  /** META partition: key number to value; only on an installed disk. */
  meta: Record<string, string>;
  /** STATE: the configuration. */
  config?: string | undefined;
  /** Used instead of `config` at the next boot. */
  staged?: string | undefined;
  /** STATE: node identity. */
  nodeId?: string | undefined;
  /** EPHEMERAL: etcd data. */
  etcd?: { cluster: string; member: string } | undefined;
  /** EPHEMERAL: images that were pulled. */
  images: string[];
  /** How often it booted. */
  boots: number;
  /** Off until told otherwise. */
  off?: boolean;
}

/** Empty disks. */
export function blankDisks(): DiskState {
  return { meta: {}, images: [], boots: 0 };
}

/** META keys with a meaning to the machine (protocols.md 2.5). */
export const metaKeys = { upgrade: 6, uuidOverride: 15, uniqueToken: 16 } as const;

/** Empties partitions by label; without labels the whole system disk. */
export function wipeDisks(disk: DiskState, labels: readonly string[]): void {
  const all = labels.length === 0;
  if (all || labels.includes("STATE")) {
    disk.config = undefined;
    disk.staged = undefined;
    disk.nodeId = undefined;
  }
  if (all || labels.includes("EPHEMERAL")) {
    disk.etcd = undefined;
    disk.images = [];
  }
  if (labels.includes("ETCD")) disk.etcd = undefined;
  if (labels.includes("CRI")) disk.images = [];
  if (all || labels.includes("META")) {
    disk.meta = {};
    disk.upgrade = undefined;
  }
  if (all) disk.installed = undefined;
}
