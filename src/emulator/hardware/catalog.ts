/** A kind of box that stands at the edge. Sizes: memory in MiB, disks in bytes, speeds in MHz or Mbit/s. */
export interface Board {
  readonly manufacturer: string;
  readonly product: string;
  readonly sku: string;
  readonly bios: string;
  readonly arch: "amd64" | "arm64";
  readonly cpu: {
    readonly manufacturer: string;
    readonly product: string;
    readonly vendorId: string;
    readonly cores: number;
    readonly threads: number;
    readonly speed: number;
    readonly sockets: number;
  };
  readonly memory: { readonly sizes: readonly number[]; readonly slots: number; readonly speed: number };
  readonly disks: readonly (readonly DiskModel[])[];
  readonly nics: readonly Nic[];
}

/** A model of disk. */
export interface DiskModel {
  readonly model: string;
  readonly bytes: number;
  readonly transport: "nvme" | "sata" | "mmc" | "usb";
  readonly rotational?: boolean;
}

/** A model of network card. */
export interface Nic {
  readonly vendor: string;
  readonly product: string;
  readonly ids: readonly [string, string];
  readonly driver: string;
  readonly speed: number;
  readonly oui: string;
}

const GB = 1e9;
const i226: Nic = {
  vendor: "Intel Corporation",
  product: "Ethernet Controller I226-LM",
  ids: ["0x8086", "0x125b"],
  driver: "igc",
  speed: 2500,
  oui: "00:a0:c9",
};
const i210: Nic = {
  ...i226,
  product: "I210 Gigabit Network Connection",
  ids: ["0x8086", "0x1533"],
  driver: "igb",
  speed: 1000,
};
const x710: Nic = {
  ...i226,
  product: "Ethernet Controller X710 for 10GbE SFP+",
  ids: ["0x8086", "0x1572"],
  driver: "i40e",
  speed: 10_000,
  oui: "3c:fd:fe",
};
const realtek: Nic = {
  vendor: "Realtek Semiconductor Co., Ltd.",
  product: "RTL8125 2.5GbE Controller",
  ids: ["0x10ec", "0x8125"],
  driver: "r8169",
  speed: 2500,
  oui: "00:e0:4c",
};

/** The boxes that the emulator knows. */
export const boards: readonly Board[] = [
  {
    manufacturer: "Intel(R) Client Systems",
    product: "NUC13ANHi5",
    sku: "NUC13ANHi5000",
    bios: "ANADL357.0031.2024.0207.1421",
    arch: "amd64",
    cpu: {
      manufacturer: "Intel(R) Corporation",
      product: "13th Gen Intel(R) Core(TM) i5-1340P",
      vendorId: "GenuineIntel",
      cores: 12,
      threads: 16,
      speed: 4600,
      sockets: 1,
    },
    memory: { sizes: [16_384, 32_768], slots: 2, speed: 3200 },
    disks: [
      [{ model: "Samsung SSD 980 PRO 500GB", bytes: 500.107862016 * GB, transport: "nvme" }],
      [{ model: "WD_BLACK SN770 1TB", bytes: 1000.204886016 * GB, transport: "nvme" }],
    ],
    nics: [i226],
  },
  {
    manufacturer: "Dell Inc.",
    product: "PowerEdge XR4510c",
    sku: "SKU=0B58;ModelName=PowerEdge XR4510c",
    bios: "1.15.2",
    arch: "amd64",
    cpu: {
      manufacturer: "Intel",
      product: "Intel(R) Xeon(R) D-2776NT CPU @ 2.10GHz",
      vendorId: "GenuineIntel",
      cores: 16,
      threads: 32,
      speed: 3200,
      sockets: 1,
    },
    memory: { sizes: [65_536, 131_072], slots: 4, speed: 2933 },
    disks: [
      [
        { model: "Dell BOSS-N1 M.2 480GB", bytes: 480.103981056 * GB, transport: "nvme" },
        { model: "Dell Ent NVMe P5600 MU U.2 1.6TB", bytes: 1600.321314816 * GB, transport: "nvme" },
      ],
    ],
    nics: [x710, x710],
  },
  {
    manufacturer: "Supermicro",
    product: "SYS-E300-12D-4CN6P",
    sku: "To be filled by O.E.M.",
    bios: "1.4",
    arch: "amd64",
    cpu: {
      manufacturer: "Intel(R) Corporation",
      product: "Intel(R) Xeon(R) D-1718T CPU @ 2.60GHz",
      vendorId: "GenuineIntel",
      cores: 4,
      threads: 8,
      speed: 3500,
      sockets: 1,
    },
    memory: { sizes: [32_768, 65_536], slots: 4, speed: 2933 },
    disks: [
      [
        { model: "INTEL SSDSC2KB480G8", bytes: 480.103981056 * GB, transport: "sata" },
        { model: "TOSHIBA MG04ACA200N", bytes: 2000.398934016 * GB, transport: "sata", rotational: true },
      ],
    ],
    nics: [i210, i210, x710],
  },
  {
    manufacturer: "AZW",
    product: "EQ12",
    sku: "Default string",
    bios: "EQ12V104",
    arch: "amd64",
    cpu: {
      manufacturer: "Intel(R) Corporation",
      product: "Intel(R) N100",
      vendorId: "GenuineIntel",
      cores: 4,
      threads: 4,
      speed: 3400,
      sockets: 1,
    },
    memory: { sizes: [8192, 16_384], slots: 1, speed: 4800 },
    disks: [
      [{ model: "NGFF 2280 500GB SSD", bytes: 512.110190592 * GB, transport: "sata" }],
      [
        { model: "KINGSTON SNV2S250G", bytes: 250.059350016 * GB, transport: "nvme" },
        { model: "Ultra Fit", bytes: 30.752636928 * GB, transport: "usb" },
      ],
    ],
    nics: [realtek, realtek],
  },
  {
    manufacturer: "ASRockRack",
    product: "X570D4U-2L2T",
    sku: "",
    bios: "P1.70",
    arch: "amd64",
    cpu: {
      manufacturer: "Advanced Micro Devices, Inc.",
      product: "AMD Ryzen 9 5950X 16-Core Processor",
      vendorId: "AuthenticAMD",
      cores: 16,
      threads: 32,
      speed: 5083,
      sockets: 1,
    },
    memory: { sizes: [65_536, 131_072], slots: 4, speed: 3200 },
    disks: [
      [
        { model: "Micron_7450_MTFDKBA960TFR", bytes: 960.197124096 * GB, transport: "nvme" },
        { model: "Micron_7450_MTFDKBA960TFR", bytes: 960.197124096 * GB, transport: "nvme" },
      ],
    ],
    nics: [i210, i210],
  },
];
