import { Random } from "#emulator/random.ts";
import { type Board, boards, type DiskModel, type Nic } from "./catalog.ts";

/** A disk as built in. */
export interface Disk extends DiskModel {
  /** Kernel name, `nvme0n1`. */
  readonly name: string;
  readonly path: string;
  readonly serial: string;
  readonly wwid: string;
  readonly busPath: string;
}

/** A network card as built in. */
export interface Card extends Nic {
  /** Link name, `enp1s0`. */
  readonly link: string;
  readonly mac: string;
  readonly pci: string;
  readonly up: boolean;
}

/** One box: made once from a seed, the same for ever. */
export interface Hardware {
  readonly board: Board;
  /** SMBIOS UUID. */
  readonly uuid: string;
  readonly serial: string;
  readonly memory: readonly {
    readonly slot: string;
    readonly mib: number;
    readonly manufacturer: string;
    readonly serial: string;
    readonly part: string;
  }[];
  readonly disks: readonly Disk[];
  readonly cards: readonly Card[];
  /** The address that DHCP gives it, with prefix length 24, and its router. */
  readonly lan: { readonly address: string; readonly gateway: string };
}

/** The box number `index` of a seed. */
export function makeHardware(seed: string, index: number): Hardware {
  const random = new Random(`${seed}/${index}`);
  const uuid = random.uuid();
  const board = random.pick(boards);
  const total = random.pick(board.memory.sizes);
  const makers = random.pick([
    ["Samsung", "M471A2K43DB1-CWE"],
    ["SK Hynix", "HMA82GS6DJR8N-XN"],
    ["Micron Technology", "9ASF2G72HZ-3G2F1"],
    ["Kingston", "KF432S20IB/16"],
  ] as const);
  const counts = new Map<string, number>();
  const disks = random.pick(board.disks).map((model, at): Disk => {
    const n = counts.get(model.transport) ?? 0;
    counts.set(model.transport, n + 1);
    const letter = String.fromCharCode(
      97 + [...counts].filter(([k]) => k !== "nvme" && k !== "mmc").reduce((a, [, c]) => a + c, 0) - 1,
    );
    const name = model.transport === "nvme" ? `nvme${n}n1` : model.transport === "mmc" ? `mmcblk${n}` : `sd${letter}`;
    const serial = random.serial(14);
    return {
      ...model,
      name,
      path: `/dev/${name}`,
      serial,
      wwid: model.transport === "nvme" ? `eui.${random.hex(16)}` : `naa.5${random.hex(15)}`,
      busPath: `/pci0000:00/0000:00:1${at}.0/${model.transport === "nvme" ? `0000:0${at + 1}:00.0/nvme` : "ata1/host0/target0:0:0/0:0:0:0"}`,
    };
  });
  const cards = board.nics.map((nic, at): Card => {
    const tail = random.bytes(3);
    return {
      ...nic,
      link: `enp${at + 1}s0`,
      mac: `${nic.oui}:${[...tail].map((b) => b.toString(16).padStart(2, "0")).join(":")}`,
      pci: `0000:0${at + 1}:00.0`,
      up: at === 0,
    };
  });
  const site = 1 + random.below(200);
  return {
    board,
    uuid,
    serial: random.serial(12),
    memory: Array.from({ length: board.memory.slots }, (_, at) => ({
      slot: `Controller${at}-DIMM0`,
      mib: total / board.memory.slots,
      manufacturer: makers[0],
      serial: random.hex(8).toUpperCase(),
      part: makers[1],
    })),
    disks,
    cards,
    lan: {
      address: `10.${site}.${Math.floor(index / 200) % 250}.${10 + (index % 200)}`,
      gateway: `10.${site}.${Math.floor(index / 200) % 250}.1`,
    },
  };
}
