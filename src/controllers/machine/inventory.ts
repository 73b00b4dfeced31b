import type { Message } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import type { NetIP, NetIPPrefix } from "#gen/common/common_pb.ts";
import type { MachineDetailsSpec, MachineServicesSpec } from "#gen/ichor/v1/ichor_pb.ts";
import { MachineServicesSpec_ServiceSchema } from "#gen/ichor/v1/ichor_pb.ts";
import type { ClusterMachineIdentitySpec, MachineStatusSpec } from "#gen/specs/specs_pb.ts";
import {
  MachineStatusSpec_DiagnosticSchema,
  MachineStatusSpec_HardwareStatus_BlockDeviceSchema,
  MachineStatusSpec_HardwareStatus_MemoryModuleSchema,
  MachineStatusSpec_HardwareStatus_ProcessorSchema,
  MachineStatusSpec_HardwareStatusSchema,
  MachineStatusSpec_NetworkStatus_NetworkLinkStatusSchema,
  MachineStatusSpec_NetworkStatusSchema,
  MachineStatusSpec_PlatformMetadataSchema,
  MachineStatusSpec_SchematicSchema,
  type SecurityState_FIPSState,
  SecurityStateSchema,
} from "#gen/specs/specs_pb.ts";
import { RuntimeMachineStage, RuntimeMachineStageSchema } from "#gen/talos/resource/definitions/enums/enums_pb.ts";
import { formatIP } from "#lib/ip.ts";
import type { TalosEvent, TalosKind } from "#talos/cosi.ts";
import { talosKinds } from "#talos/resources.ts";

/** Extensions that Talos lists without being chosen by anybody (protocols.md 6.5). */
const notExtensions = new Set(["schematic", "modules.dep", "embedded-config"]);
/** Operational state UP of a network link. */
const linkUp = 6;
/** Main routing table. */
const mainTable = 254;

/** What one machine told by its watches, until the connection ends. */
export class Inventory {
  readonly #found = new Map<string, Map<string, Message>>();
  readonly version: { readonly tag: string; readonly arch: string };

  constructor(version: { readonly tag: string; readonly arch: string }) {
    this.version = version;
  }

  /** Takes a change in. True when it made a difference. */
  take<S extends Message>(kind: TalosKind<S>, event: TalosEvent<S>): boolean {
    if (event.kind === "ready") return true;
    const all = this.#found.get(kind.type) ?? new Map<string, Message>();
    this.#found.set(kind.type, all);
    if (event.kind === "destroyed") return all.delete(event.id);
    all.set(event.resource.id, event.resource.spec);
    return true;
  }

  #all<S extends Message>(kind: TalosKind<S>): (S & { readonly id: string })[] {
    const entries = [...(this.#found.get(kind.type) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
    return entries.map(([id, spec]) => ({ ...(spec as S), id }));
  }
  #one<S extends Message>(kind: TalosKind<S>, id?: string): S | undefined {
    const all = this.#found.get(kind.type);
    return (id === undefined ? all?.values().next().value : all?.get(id)) as S | undefined;
  }

  /** Whether it says that it is in maintenance; undefined before it says anything. */
  get inMaintenance(): boolean | undefined {
    const stage = this.#one(talosKinds.machineStatus)?.stage ?? RuntimeMachineStage.MACHINE_STAGE_UNKNOWN;
    if (stage === RuntimeMachineStage.MACHINE_STAGE_UNKNOWN) return undefined;
    return stage === RuntimeMachineStage.MACHINE_STAGE_MAINTENANCE;
  }

  /** Fills what the machine itself tells; the rest of the spec is not touched. */
  fillStatus(spec: MachineStatusSpec): void {
    spec.talosVersion = this.version.tag;
    spec.initialTalosVersion ||= this.version.tag;
    spec.hardware = create(MachineStatusSpec_HardwareStatusSchema, {
      arch: this.version.arch,
      processors: this.#all(talosKinds.processor)
        .filter(({ coreCount }) => coreCount > 0)
        .map((cpu) =>
          create(MachineStatusSpec_HardwareStatus_ProcessorSchema, {
            coreCount: cpu.coreCount,
            threadCount: cpu.threadCount,
            frequency: cpu.maxSpeed,
            manufacturer: cpu.manufacturer,
            description: describe(
              cpu.manufacturer,
              cpu.productName,
              `${(cpu.maxSpeed / 1000).toFixed(1)}GHz`,
              `${cpu.coreCount} cores`,
            ),
          }),
        ),
      memoryModules: this.#all(talosKinds.memoryModule)
        .filter(({ size }) => size > 0)
        .map((memory) =>
          create(MachineStatusSpec_HardwareStatus_MemoryModuleSchema, {
            sizeMb: memory.size,
            description: describe(memory.manufacturer, memory.productName),
          }),
        ),
      blockdevices: this.#disks(),
    });
    spec.network = this.#network();
    const security = this.#one(talosKinds.securityState);
    if (security) {
      spec.securityState = create(SecurityStateSchema, {
        secureBoot: security.secureBoot,
        bootedWithUki: security.bootedWithUki,
        fipsState: security.fipsState as number as SecurityState_FIPSState,
      });
    }
    const platform = this.#one(talosKinds.platformMetadata);
    if (platform) {
      const { $typeName: _, $unknown: __, internalDns: ___, externalDns: ____, ...shared } = platform;
      spec.platformMetadata = create(MachineStatusSpec_PlatformMetadataSchema, shared);
    }
    spec.kernelCmdline = withoutToken(this.#one(talosKinds.kernelCmdline)?.cmdline ?? "");
    spec.schematic = this.#schematic();
    spec.diagnostics = this.#all(talosKinds.diagnostic).map(({ id, message, details }) =>
      create(MachineStatusSpec_DiagnosticSchema, { id, message, details }),
    );
  }

  fillDetails(spec: MachineDetailsSpec): void {
    const system = this.#one(talosKinds.systemInformation);
    const status = this.#one(talosKinds.machineStatus);
    spec.timeSynced = this.#one(talosKinds.time)?.synced ?? false;
    spec.systemDisk = this.#one(talosKinds.systemDisk)?.devPath ?? "";
    spec.extensions = this.#extensions().map(({ name, version }) => (version ? `${name} ${version}` : name));
    spec.manufacturer = system?.manufacturer ?? "";
    spec.productName = system?.productName ?? "";
    spec.serialNumber = system?.serialNumber ?? "";
    spec.dnsServers = (this.#one(talosKinds.resolver)?.dnsServers ?? []).map(ipText);
    spec.timeServers = this.#one(talosKinds.timeServer)?.ntpServers ?? [];
    spec.stage = (RuntimeMachineStageSchema.value[status?.stage ?? 0]?.name ?? "")
      .replace(/^MACHINE_STAGE_/, "")
      .toLowerCase()
      .replaceAll("_", " ");
    spec.ready = status?.status?.ready ?? false;
    spec.unmetConditions = (status?.status?.unmetConditions ?? []).map(({ name, reason }) => `${name}: ${reason}`);
  }

  fillServices(spec: MachineServicesSpec): void {
    spec.services = this.#all(talosKinds.service).map(({ id, running, healthy, unknown }) =>
      create(MachineServicesSpec_ServiceSchema, { name: id, running, healthy, unknown }),
    );
  }

  fillIdentity(spec: ClusterMachineIdentitySpec): void {
    const member = this.#one(talosKinds.etcdMember)?.memberId ?? "";
    spec.nodeIdentity = this.#one(talosKinds.identity)?.nodeId ?? "";
    spec.nodename = this.#one(talosKinds.nodename)?.nodename ?? "";
    spec.etcdMemberId = /^[0-9a-f]{1,16}$/i.test(member) ? BigInt(`0x${member}`) : 0n;
    spec.nodeIps = (this.#one(talosKinds.nodeIP, "kubelet")?.addresses ?? []).map(ipText);
  }

  #disks() {
    const system = this.#one(talosKinds.systemDisk)?.diskId;
    return this.#all(talosKinds.disk).map((disk) =>
      create(MachineStatusSpec_HardwareStatus_BlockDeviceSchema, {
        size: disk.size,
        model: disk.model,
        linuxName: disk.devPath,
        name: disk.modalias,
        serial: disk.serial,
        uuid: disk.uuid,
        wwid: disk.wwid,
        type: diskType(disk),
        busPath: disk.busPath,
        systemDisk: disk.id === system,
        readonly: disk.readonly,
        transport: disk.transport,
      }),
    );
  }

  #network() {
    const hostname = this.#one(talosKinds.hostname);
    const gateways = this.#all(talosKinds.route)
      .filter(
        ({ destination, gateway, table }) => !destination?.ip?.length && gateway && (table as number) === mainTable,
      )
      .map(({ gateway }) => ipText(gateway!));
    return create(MachineStatusSpec_NetworkStatusSchema, {
      hostname: hostname?.hostname ?? "",
      domainname: hostname?.domainname ?? "",
      addresses: (this.#one(talosKinds.nodeAddress, "default")?.addresses ?? []).map(prefixText),
      defaultGateways: [...new Set(gateways.filter(Boolean))],
      networkLinks: this.#all(talosKinds.link)
        .filter(({ kind, hardwareAddr, id }) => kind === "" && hardwareAddr.length > 0 && id !== "lo")
        .map((link) =>
          create(MachineStatusSpec_NetworkStatus_NetworkLinkStatusSchema, {
            linuxName: link.id,
            hardwareAddress: macText(link.hardwareAddr),
            speedMbps: speed(link.speedMegabits),
            linkUp: link.linkState || (link.operationalState as number) === linkUp,
            description: describe(link.vendor, link.product),
          }),
        ),
    });
  }

  #extensions(): { name: string; version: string }[] {
    return this.#all(talosKinds.extension)
      .map(({ metadata }) => ({ name: metadata?.name ?? "", version: metadata?.version ?? "" }))
      .filter(({ name }) => name !== "" && !notExtensions.has(name));
  }

  #schematic() {
    const all = this.#all(talosKinds.extension).map(({ metadata }) => metadata);
    const own = all.find((metadata) => metadata?.name === "schematic");
    const names = this.#extensions().map(({ name }) => name);
    return create(MachineStatusSpec_SchematicSchema, {
      fullId: own?.version ?? "",
      initialSchematic: own?.version ?? "",
      raw: own?.extraInfo ?? "",
      extensions: names,
      invalid: !own && names.some((name) => name !== "metal-agent"),
      inAgentMode: names.includes("metal-agent"),
    });
  }
}

function describe(...parts: string[]): string {
  return parts.filter((part) => part && part !== "0.0GHz").join(" ");
}

function diskType({
  rotational,
  transport,
  cdrom,
}: {
  rotational: boolean;
  transport: string;
  cdrom: boolean;
}): string {
  if (cdrom) return "CD";
  if (transport === "nvme") return "NVME";
  if (transport === "mmc") return "SD";
  return rotational ? "HDD" : "SSD";
}

/** Unknown speeds come as the largest number there is. */
function speed(megabits: bigint): number {
  return megabits > 0n && megabits < 10_000_000n ? Number(megabits) : 0;
}

function ipText({ ip }: Pick<NetIP, "ip">): string {
  return ip.length === 4 || ip.length === 16 ? formatIP(ip) : "";
}

function prefixText({ ip, prefixLength }: NetIPPrefix): string {
  return `${ipText({ ip })}/${prefixLength}`;
}

function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The command line of the kernel holds the join token. */
function withoutToken(cmdline: string): string {
  return cmdline.replace(/(jointoken=)[^&\s"]*/g, "$1******");
}
