import type { DescMessage } from "@bufbuild/protobuf";
import { ResourceDefinitionSpecSchema } from "#gen/cosi/resource/meta/meta_pb.ts";
import { MachineConfigSpecSchema, MachineTypeSpecSchema } from "#gen/resource/config/config_pb.ts";
import * as block from "#gen/talos/resource/definitions/block/block_pb.ts";
import * as cluster from "#gen/talos/resource/definitions/cluster/cluster_pb.ts";
import * as etcd from "#gen/talos/resource/definitions/etcd/etcd_pb.ts";
import * as extensions from "#gen/talos/resource/definitions/extensions/extensions_pb.ts";
import * as hardware from "#gen/talos/resource/definitions/hardware/hardware_pb.ts";
import * as k8s from "#gen/talos/resource/definitions/k8s/k8s_pb.ts";
import * as network from "#gen/talos/resource/definitions/network/network_pb.ts";
import * as runtime from "#gen/talos/resource/definitions/runtime/runtime_pb.ts";
import * as siderolink from "#gen/talos/resource/definitions/siderolink/siderolink_pb.ts";
import * as time from "#gen/talos/resource/definitions/time/time_pb.ts";
import * as v1alpha1 from "#gen/talos/resource/definitions/v1alpha1/v1alpha1_pb.ts";
import { singular } from "#lib/plural.ts";

/** A type of Talos resource (protocols.md 6.3). */
export interface ResourceType<D extends DescMessage = DescMessage> {
  /** `Disks.block.talos.dev`. */
  readonly name: string;
  readonly namespace: string;
  readonly spec: D;
  /** Only `os:admin` may read it. */
  readonly sensitive: boolean;
  /** Controller that owns the resources. */
  readonly owner: string;
  readonly aliases: readonly string[];
  /** Columns that talosctl prints: name and JSONPath into the YAML spec. */
  readonly columns: readonly (readonly [string, string])[];
  /** First Talos minor that has it. */
  readonly since: number;
}

const all = new Map<string, ResourceType>();

function declare<D extends DescMessage>(
  name: string,
  namespace: string,
  spec: D,
  owner: string,
  more: Partial<Pick<ResourceType, "sensitive" | "aliases" | "columns" | "since">> = {},
): ResourceType<D> {
  const type: ResourceType<D> = {
    name,
    namespace,
    spec,
    owner,
    sensitive: false,
    aliases: [],
    columns: [],
    since: 0,
    ...more,
  };
  all.set(name, type);
  return type;
}

/** The types that the emulator fills. */
export const types = {
  definition: declare("ResourceDefinitions.meta.cosi.dev", "meta", ResourceDefinitionSpecSchema, "", {
    aliases: ["api-resources"],
  }),
  machineStatus: declare(
    "MachineStatuses.runtime.talos.dev",
    "runtime",
    runtime.MachineStatusSpecSchema,
    "runtime.MachineStatusController",
    {
      columns: [
        ["Stage", "{.stage}"],
        ["Ready", "{.status.ready}"],
      ],
    },
  ),
  version: declare("Versions.runtime.talos.dev", "runtime", runtime.VersionSpecSchema, "runtime.VersionController", {
    columns: [["Version", "{.version}"]],
    since: 13,
  }),
  securityState: declare(
    "SecurityStates.talos.dev",
    "runtime",
    runtime.SecurityStateSpecSchema,
    "runtime.SecurityStateController",
    {
      columns: [["SecureBoot", "{.secureBoot}"]],
    },
  ),
  platformMetadata: declare(
    "PlatformMetadatas.talos.dev",
    "runtime",
    runtime.PlatformMetadataSpecSchema,
    "network.PlatformConfigController",
    {
      columns: [["Platform", "{.platform}"]],
    },
  ),
  metaKey: declare("MetaKeys.runtime.talos.dev", "runtime", runtime.MetaKeySpecSchema, "", {
    columns: [["Value", "{.value}"]],
  }),
  metaLoaded: declare("MetaLoads.runtime.talos.dev", "runtime", runtime.MetaLoadedSpecSchema, ""),
  uniqueToken: declare(
    "UniqueMachineTokens.runtime.talos.dev",
    "runtime",
    runtime.UniqueMachineTokenSpecSchema,
    "runtime.UniqueMachineTokenController",
  ),
  cmdline: declare(
    "KernelCmdlines.runtime.talos.dev",
    "runtime",
    runtime.KernelCmdlineSpecSchema,
    "runtime.KernelCmdlineController",
  ),
  bootId: declare("BootIDs.runtime.talos.dev", "runtime", runtime.BootIDSpecSchema, "runtime.BootIDController", {
    since: 14,
  }),
  extension: declare(
    "ExtensionStatuses.runtime.talos.dev",
    "runtime",
    extensions.LayerSchema,
    "runtime.ExtensionStatusController",
    {
      aliases: ["extensions"],
      columns: [
        ["Name", "{.metadata.name}"],
        ["Version", "{.metadata.version}"],
      ],
    },
  ),
  diagnostic: declare(
    "Diagnostics.runtime.talos.dev",
    "runtime",
    runtime.DiagnosticSpecSchema,
    "runtime.DiagnosticsController",
    {
      columns: [["Message", "{.message}"]],
    },
  ),
  eventSink: declare(
    "EventSinkConfigs.runtime.talos.dev",
    "runtime",
    runtime.EventSinkConfigSpecSchema,
    "runtime.EventsSinkConfigController",
  ),
  kmsgLog: declare(
    "KmsgLogConfigs.runtime.talos.dev",
    "runtime",
    runtime.KmsgLogConfigSpecSchema,
    "runtime.KmsgLogConfigController",
  ),
  service: declare("Services.v1alpha1.talos.dev", "runtime", v1alpha1.ServiceSpecSchema, "v1alpha1.ServiceController", {
    aliases: ["svc"],
    columns: [
      ["Running", "{.running}"],
      ["Healthy", "{.healthy}"],
      ["Health Unknown", "{.unknown}"],
    ],
  }),
  systemInformation: declare(
    "SystemInformations.hardware.talos.dev",
    "hardware",
    hardware.SystemInformationSpecSchema,
    "hardware.SystemInfoController",
    {
      aliases: ["systeminformation"],
      columns: [
        ["Manufacturer", "{.manufacturer}"],
        ["ProductName", "{.productName}"],
        ["SerialNumber", "{.serialNumber}"],
        ["UUID", "{.uuid}"],
      ],
    },
  ),
  processor: declare(
    "Processors.hardware.talos.dev",
    "hardware",
    hardware.ProcessorSpecSchema,
    "hardware.SystemInfoController",
    {
      aliases: ["cpus"],
      columns: [
        ["Manufacturer", "{.manufacturer}"],
        ["Model", "{.productName}"],
        ["Cores", "{.coreCount}"],
        ["Threads", "{.threadCount}"],
      ],
    },
  ),
  memoryModule: declare(
    "MemoryModules.hardware.talos.dev",
    "hardware",
    hardware.MemoryModuleSpecSchema,
    "hardware.SystemInfoController",
    {
      aliases: ["memorymodules", "ram"],
      columns: [
        ["Manufacturer", "{.manufacturer}"],
        ["Model", "{.productName}"],
        ["SizeMiB", "{.size}"],
      ],
    },
  ),
  pciDevice: declare(
    "PCIDevices.hardware.talos.dev",
    "hardware",
    hardware.PCIDeviceSpecSchema,
    "hardware.PCIDevicesController",
    {
      aliases: ["devices", "pcidevices"],
      columns: [
        ["Class", "{.class}"],
        ["Vendor", "{.vendor}"],
        ["Product", "{.product}"],
      ],
    },
  ),
  disk: declare("Disks.block.talos.dev", "runtime", block.DiskSpecSchema, "block.DisksController", {
    aliases: ["disks"],
    columns: [
      ["Size", "{.prettySize}"],
      ["Read Only", "{.readonly}"],
      ["Transport", "{.transport}"],
      ["Rotational", "{.rotational}"],
      ["WWID", "{.wwid}"],
      ["Model", "{.model}"],
      ["Serial", "{.serial}"],
    ],
  }),
  systemDisk: declare(
    "SystemDisks.block.talos.dev",
    "runtime",
    block.SystemDiskSpecSchema,
    "block.SystemDiskController",
    {
      aliases: ["systemdisk"],
      columns: [["Disk", "{.diskID}"]],
    },
  ),
  discoveredVolume: declare(
    "DiscoveredVolumes.block.talos.dev",
    "runtime",
    block.DiscoveredVolumeSpecSchema,
    "block.DiscoveryController",
    {
      aliases: ["discoveredvolumes"],
      columns: [
        ["Type", "{.type}"],
        ["Size", "{.prettySize}"],
        ["Discovered", "{.name}"],
        ["Label", "{.label}"],
        ["PartitionLabel", "{.partitionLabel}"],
      ],
    },
  ),
  volumeStatus: declare(
    "VolumeStatuses.block.talos.dev",
    "runtime",
    block.VolumeStatusSpecSchema,
    "block.VolumeManagerController",
    {
      columns: [
        ["Type", "{.type}"],
        ["Phase", "{.phase}"],
        ["Location", "{.location}"],
        ["Size", "{.prettySize}"],
      ],
    },
  ),
  mountStatus: declare(
    "MountStatuses.block.talos.dev",
    "runtime",
    block.MountStatusSpecSchema,
    "block.MountController",
  ),
  link: declare("LinkStatuses.net.talos.dev", "network", network.LinkStatusSpecSchema, "network.LinkStatusController", {
    aliases: ["links", "link"],
    columns: [
      ["Type", "{.type}"],
      ["Kind", "{.kind}"],
      ["Hw Addr", "{.hardwareAddr}"],
      ["Oper State", "{.operationalState}"],
      ["Link State", "{.linkState}"],
    ],
  }),
  address: declare(
    "AddressStatuses.net.talos.dev",
    "network",
    network.AddressStatusSpecSchema,
    "network.AddressStatusController",
    {
      aliases: ["address", "addresses"],
      columns: [
        ["Address", "{.address}"],
        ["Link", "{.linkName}"],
      ],
    },
  ),
  nodeAddress: declare(
    "NodeAddresses.net.talos.dev",
    "network",
    network.NodeAddressSpecSchema,
    "network.NodeAddressController",
    {
      columns: [["Addresses", "{.addresses}"]],
    },
  ),
  hostname: declare(
    "HostnameStatuses.net.talos.dev",
    "network",
    network.HostnameStatusSpecSchema,
    "network.HostnameSpecController",
    {
      aliases: ["hostname"],
      columns: [
        ["Hostname", "{.hostname}"],
        ["Domainname", "{.domainname}"],
      ],
    },
  ),
  route: declare(
    "RouteStatuses.net.talos.dev",
    "network",
    network.RouteStatusSpecSchema,
    "network.RouteStatusController",
    {
      aliases: ["routes", "route"],
      columns: [
        ["Destination", "{.destination}"],
        ["Gateway", "{.gateway}"],
        ["Link", "{.outLinkName}"],
        ["Metric", "{.priority}"],
      ],
    },
  ),
  networkStatus: declare(
    "NetworkStatuses.net.talos.dev",
    "network",
    network.StatusSpecSchema,
    "network.StatusController",
    {
      columns: [
        ["Address", "{.addressReady}"],
        ["Connectivity", "{.connectivityReady}"],
        ["Hostname", "{.hostnameReady}"],
        ["Etc", "{.etcFilesReady}"],
      ],
    },
  ),
  resolver: declare(
    "ResolverStatuses.net.talos.dev",
    "network",
    network.ResolverStatusSpecSchema,
    "network.ResolverSpecController",
    {
      aliases: ["resolvers"],
      columns: [["Resolvers", "{.dnsServers}"]],
    },
  ),
  timeServer: declare(
    "TimeServerStatuses.net.talos.dev",
    "network",
    network.TimeServerStatusSpecSchema,
    "network.TimeServerSpecController",
    {
      aliases: ["timeservers"],
      columns: [["Timeservers", "{.ntpServers}"]],
    },
  ),
  time: declare("TimeStatuses.v1alpha1.talos.dev", "runtime", time.StatusSpecSchema, "time.SyncController", {
    columns: [["Synced", "{.synced}"]],
  }),
  config: declare("MachineConfigs.config.talos.dev", "config", MachineConfigSpecSchema, "config.AcquireController", {
    sensitive: true,
    aliases: ["mc", "machineconfig"],
  }),
  machineType: declare(
    "MachineTypes.config.talos.dev",
    "config",
    MachineTypeSpecSchema,
    "config.MachineTypeController",
  ),
  nodename: declare("Nodenames.kubernetes.talos.dev", "k8s", k8s.NodenameSpecSchema, "k8s.NodenameController", {
    aliases: ["nodename"],
    columns: [["Nodename", "{.nodename}"]],
  }),
  nodeStatus: declare(
    "NodeStatuses.kubernetes.talos.dev",
    "k8s",
    k8s.NodeStatusSpecSchema,
    "k8s.NodeStatusController",
    {
      columns: [
        ["Ready", "{.nodeReady}"],
        ["Unschedulable", "{.unschedulable}"],
      ],
    },
  ),
  nodeIP: declare("NodeIPs.kubernetes.talos.dev", "k8s", k8s.NodeIPSpecSchema, "k8s.NodeIPController"),
  staticPodStatus: declare(
    "StaticPodStatuses.kubernetes.talos.dev",
    "k8s",
    k8s.StaticPodStatusSpecSchema,
    "k8s.KubeletStaticPodController",
  ),
  kubelet: declare("KubeletSpecs.kubernetes.talos.dev", "k8s", k8s.KubeletSpecSpecSchema, "k8s.KubeletSpecController", {
    sensitive: true,
  }),
  endpoint: declare("Endpoints.kubernetes.talos.dev", "controlplane", k8s.EndpointSpecSchema, "k8s.EndpointController"),
  etcdMember: declare("EtcdMembers.etcd.talos.dev", "etcd", etcd.MemberSpecSchema, "etcd.MemberController", {
    columns: [["ID", "{.memberID}"]],
  }),
  etcdPki: declare("PKIStatuses.etcd.talos.dev", "etcd", etcd.PKIStatusSpecSchema, "etcd.PKIController"),
  identity: declare(
    "Identities.cluster.talos.dev",
    "cluster",
    cluster.IdentitySpecSchema,
    "cluster.NodeIdentityController",
    {
      columns: [["ID", "{.nodeId}"]],
    },
  ),
  clusterInfo: declare("Infos.cluster.talos.dev", "cluster", cluster.InfoSpecSchema, "cluster.InfoController"),
  member: declare(
    "Members.cluster.talos.dev",
    "cluster",
    cluster.MemberSpecSchema,
    "cluster.LocalAffiliateController",
    {
      aliases: ["members"],
      columns: [
        ["Hostname", "{.hostname}"],
        ["Machine Type", "{.machineType}"],
        ["OS", "{.operatingSystem}"],
        ["Addresses", "{.addresses}"],
      ],
    },
  ),
  siderolinkConfig: declare(
    "SiderolinkConfigs.siderolink.talos.dev",
    "config",
    siderolink.ConfigSpecSchema,
    "siderolink.ConfigController",
    {
      sensitive: true,
    },
  ),
  siderolinkStatus: declare(
    "SiderolinkStatuses.siderolink.talos.dev",
    "config",
    siderolink.StatusSpecSchema,
    "siderolink.StatusController",
    {
      columns: [
        ["Host", "{.host}"],
        ["Connected", "{.connected}"],
      ],
    },
  ),
} as const;

/** The type of a name, if a machine of that Talos minor has it. */
export function typeNamed(name: string, minor: number): ResourceType | undefined {
  const type = all.get(name);
  return type && type.since <= minor ? type : undefined;
}

/** All types of a Talos minor. */
export function typesOf(minor: number): ResourceType[] {
  return [...all.values()].filter((type) => type.since <= minor);
}

/** Fields of a type's ResourceDefinition, with the names that talosctl looks a type up by (protocols.md 6.3). */
export function definitionOf(type: ResourceType) {
  const [plural = "", ...group] = type.name.split(".");
  const displayType = singular(plural);
  const capitals = (plural.match(/[A-Z]/g) ?? []).join("");
  const short = capitals.length < 2 ? [] : capitals.endsWith("S") ? [capitals] : [capitals, `${capitals}s`];
  const aliases = [...new Set([...type.aliases, ...[displayType, ...short].map((name) => name.toLowerCase())])];
  // Every leading part of the full name but the full name itself, which needs no alias.
  const heads = group.map((_, at) => [plural.toLowerCase(), ...group.slice(0, at)].join("."));
  return {
    resourceType: type.name,
    displayType,
    defaultNamespace: type.namespace,
    aliases,
    allAliases: [...new Set([...heads, ...aliases])],
    printColumns: type.columns.map(([name, jsonPath]) => ({ name, jsonPath })),
    sensitivity: type.sensitive ? (1 as const) : (0 as const),
  };
}
