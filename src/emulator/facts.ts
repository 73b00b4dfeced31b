import { parseIP } from "#lib/ip.ts";
import type { Card, Disk, Hardware } from "./hardware/hardware.ts";
import type { Collection } from "./state/collection.ts";
import { definitionOf, types, typesOf } from "./state/types.ts";

/** What the inventory shows besides hardware. */
export interface Facts {
  readonly hardware: Hardware;
  readonly tag: string;
  readonly minor: number;
  readonly uuid: string;
  readonly cmdline: string;
  readonly bootId: string;
  readonly schematic: string;
  readonly extensions: readonly { readonly name: string; readonly version: string; readonly description: string }[];
  readonly installedDisk: string | undefined;
}

/** Fills in all that is known as soon as the kernel runs. */
export function fillHardware(state: Collection, facts: Facts): void {
  const { hardware, minor } = facts;
  for (const type of typesOf(minor)) state.put(types.definition, type.name.toLowerCase(), definitionOf(type));
  state.put(types.cmdline, "cmdline", { cmdline: facts.cmdline });
  if (minor >= 13) state.put(types.version, "version", { version: facts.tag, name: "Talos" });
  if (minor >= 14) state.put(types.bootId, "boot-id", { bootId: facts.bootId });
  state.put(types.securityState, "securitystate", {
    secureBoot: false,
    bootedWithUki: true,
    seLinuxState: 1,
    moduleSignatureEnforced: minor >= 12,
  });
  state.put(types.platformMetadata, "platformmetadata", { platform: "metal" });
  state.put(types.systemInformation, "systeminformation", {
    manufacturer: hardware.board.manufacturer,
    productName: hardware.board.product,
    version: "",
    serialNumber: hardware.serial,
    uuid: facts.uuid,
    wakeUpType: "Power Switch",
    skuNumber: hardware.board.sku,
    ...(minor >= 14 ? { biosVersion: hardware.board.bios } : {}),
  });
  const { cpu } = hardware.board;
  for (let socket = 0; socket < cpu.sockets; socket++) {
    state.put(types.processor, `CPU-${socket}`, {
      socket: `CPU ${socket}`,
      manufacturer: cpu.manufacturer,
      productName: cpu.product,
      maxSpeed: cpu.speed,
      bootSpeed: cpu.speed,
      status: 65,
      coreCount: cpu.cores,
      coreEnabled: cpu.cores,
      threadCount: cpu.threads,
    });
  }
  for (const module of hardware.memory) {
    state.put(types.memoryModule, module.slot, {
      size: module.mib,
      deviceLocator: module.slot,
      bankLocator: "BANK 0",
      speed: hardware.board.memory.speed,
      manufacturer: module.manufacturer,
      serialNumber: module.serial,
      productName: module.part,
    });
  }
  for (const card of hardware.cards) {
    state.put(types.pciDevice, card.pci, {
      class: "Network controller",
      subclass: "Ethernet controller",
      vendor: card.vendor,
      product: card.product,
      classId: "0x02",
      subclassId: "0x00",
      vendorId: card.ids[0],
      productId: card.ids[1],
      driver: card.driver,
    });
  }
  fillDisks(state, facts);
  fillExtensions(state, facts);
}

/** Disks, and what is on the system disk. Call again after an installation or a wipe. */
export function fillDisks(state: Collection, facts: Pick<Facts, "hardware" | "installedDisk">): void {
  for (const disk of facts.hardware.disks) state.put(types.disk, disk.name, diskSpec(disk));
  const system = facts.hardware.disks.find((disk) => disk.path === facts.installedDisk);
  const volumes = new Set<string>();
  if (system) {
    state.put(types.systemDisk, "system-disk", { diskId: system.name, devPath: system.path });
    const separator = /\d$/.test(system.name) ? "p" : "";
    let offset = 1 << 20;
    for (const [index, [label, size, name]] of partitions(system.bytes).entries()) {
      const id = `${system.name}${separator}${index + 1}`;
      volumes.add(id);
      state.put(types.discoveredVolume, id, {
        size: BigInt(size),
        sectorSize: 512n,
        name,
        label: name === "xfs" ? label : "",
        partitionLabel: label,
        partitionIndex: BigInt(index + 1),
        type: "partition",
        devicePath: `/pci/${id}`,
        parent: system.name,
        devPath: `/dev/${id}`,
        parentDevPath: system.path,
        prettySize: pretty(size),
        offset: BigInt(offset),
      });
      offset += size;
    }
  } else state.remove(types.systemDisk, "system-disk");
  for (const disk of facts.hardware.disks) {
    volumes.add(disk.name);
    state.put(types.discoveredVolume, disk.name, {
      size: BigInt(disk.bytes),
      sectorSize: 512n,
      name: disk === system ? "gpt" : "",
      type: "disk",
      devicePath: disk.busPath,
      devPath: disk.path,
      prettySize: pretty(disk.bytes),
    });
  }
  state.retain(types.discoveredVolume, volumes);
  for (const label of ["META", "STATE", "EPHEMERAL"]) {
    const size = system && partitions(system.bytes).find(([name]) => name === label)?.[1];
    state.put(
      types.volumeStatus,
      label,
      size
        ? {
            phase: 6,
            location: `${system.path}`,
            parentLocation: system.path,
            size: BigInt(size),
            prettySize: pretty(size),
            filesystem: label === "META" ? 0 : 1,
            type: 0,
          }
        : { phase: label === "META" ? 2 : 0, type: 0 },
    );
  }
}

/** Links, addresses and routes: the LAN, and the tunnel once it is up. */
export function fillNetwork(
  state: Collection,
  hardware: Hardware,
  link: { readonly address: string; readonly name: string } | undefined,
): void {
  state.put(types.link, "lo", {
    index: 1,
    type: 772,
    mtu: 65_536,
    operationalState: 0,
    linkState: true,
    hardwareAddr: new Uint8Array(6),
  });
  for (const [at, card] of hardware.cards.entries()) state.put(types.link, card.link, linkSpec(card, at + 2));
  const first = hardware.cards.find((card) => card.up);
  const addresses = first ? [{ link: first.link, index: 2, ip: hardware.lan.address, bits: 24 }] : [];
  const tunnelIndex = hardware.cards.length + 2;
  if (link) {
    state.put(types.link, link.name, {
      index: tunnelIndex,
      type: 65_534,
      flags: 65_745,
      mtu: 1280,
      kind: "wireguard",
      operationalState: 0,
      linkState: true,
    });
    addresses.push({ link: link.name, index: tunnelIndex, ip: link.address, bits: 64 });
  } else for (const name of ["siderolink", "siderolinktun"]) state.remove(types.link, name);
  addresses.push({ link: "lo", index: 1, ip: "127.0.0.1", bits: 8 });
  const ids = new Set<string>();
  for (const { link: name, index, ip, bits } of addresses) {
    const id = `${name}/${ip}/${bits}`;
    ids.add(id);
    const bytes = parseIP(ip);
    state.put(types.address, id, {
      address: { ip: bytes, prefixLength: bits },
      local: { ip: bytes },
      linkIndex: index,
      linkName: name,
      family: bytes.length === 4 ? 2 : 10,
      scope: name === "lo" ? 254 : 0,
      flags: 128,
    });
  }
  state.retain(types.address, ids);
  if (first) {
    state.put(types.route, `inet4/${hardware.lan.gateway}//1024`, {
      family: 2,
      gateway: { ip: parseIP(hardware.lan.gateway) },
      outLinkIndex: 2,
      outLinkName: first.link,
      table: 254,
      priority: 1024,
      scope: 0,
      type: 1,
      protocol: 16,
    });
  }
  const routed = addresses.filter((address) => address.link !== "lo");
  const lan = routed.filter((address) => address.link !== link?.name);
  const spec = (list: typeof addresses) => ({
    addresses: list.map(({ ip, bits }) => ({ ip: parseIP(ip), prefixLength: bits })),
  });
  if (lan[0]) state.put(types.nodeAddress, "default", spec([lan[0]]));
  for (const id of ["current", "accumulative", "current-no-k8s", "accumulative-no-k8s"])
    state.put(types.nodeAddress, id, spec(routed));
  for (const id of ["routed", "routed-no-k8s"]) state.put(types.nodeAddress, id, spec(lan));
  state.put(types.resolver, "resolvers", { dnsServers: [{ ip: parseIP(hardware.lan.gateway) }] });
  state.put(types.timeServer, "timeservers", { ntpServers: ["time.cloudflare.com"] });
}

/** Extension names and the schematic. */
export function fillExtensions(state: Collection, facts: Pick<Facts, "extensions" | "schematic">): void {
  const ids = new Set<string>();
  for (const [at, extension] of facts.extensions.entries()) {
    const id = String(at);
    ids.add(id);
    state.put(types.extension, id, {
      image: `000.ghcr.io-siderolabs-${extension.name}-${extension.version}.sqsh`,
      metadata: { ...extension, author: "Sidero Labs", compatibility: { talos: { version: ">= v1.5.0" } } },
    });
  }
  if (facts.schematic) {
    const id = String(facts.extensions.length);
    ids.add(id);
    state.put(types.extension, id, {
      image: "",
      metadata: {
        name: "schematic",
        version: facts.schematic,
        author: "Image Factory",
        description: "Virtual extension which specifies the schematic of the image built with Image Factory.",
        extraInfo: facts.extensions.length === 0 ? "customization: {}\n" : "",
      },
    });
  }
  state.retain(types.extension, ids);
}

function diskSpec(disk: Disk) {
  return {
    size: BigInt(disk.bytes),
    ioSize: 512n,
    sectorSize: 512n,
    readonly: false,
    model: disk.model,
    serial: disk.serial,
    wwid: disk.wwid,
    busPath: disk.busPath,
    subSystem: "/sys/class/block",
    transport: disk.transport,
    rotational: disk.rotational ?? false,
    devPath: disk.path,
    prettySize: pretty(disk.bytes),
    symlinks: [`/dev/disk/by-id/${disk.wwid}`],
  };
}

function linkSpec(card: Card, index: number) {
  const mac = Uint8Array.from(card.mac.split(":").map((part) => Number.parseInt(part, 16)));
  return {
    index,
    type: 1 as const,
    flags: card.up ? 69_699 : 4099,
    hardwareAddr: mac,
    permanentAddr: mac,
    broadcastAddr: new Uint8Array(6).fill(255),
    mtu: 1500,
    queueDisc: "mq",
    operationalState: card.up ? (6 as const) : (2 as const),
    busPath: card.pci,
    pciid: `${card.ids[0].slice(2).toUpperCase()}:${card.ids[1].slice(2).toUpperCase()}`,
    driver: card.driver,
    product: card.product,
    vendor: card.vendor,
    linkState: card.up,
    speedMegabits: BigInt(card.up ? card.speed : 0),
    altNames: [`enx${card.mac.replaceAll(":", "")}`],
  };
}

function partitions(disk: number): [string, number, string][] {
  const MiB = 1 << 20;
  const fixed: [string, number, string][] = [
    ["EFI", 2200 * MiB, "vfat"],
    ["META", MiB, "talosmeta"],
    ["STATE", 100 * MiB, "xfs"],
  ];
  const used = fixed.reduce((sum, [, size]) => sum + size, 2 * MiB);
  return [...fixed, ["EPHEMERAL", Math.floor((disk - used) / MiB) * MiB, "xfs"]];
}

/** Sizes as Talos prints them: decimal units, two significant digits below ten. */
export function pretty(bytes: number): string {
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < 5; unit++) value /= 1000;
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
}
