import type { Message } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import * as block from "#gen/talos/resource/definitions/block/block_pb.ts";
import * as cluster from "#gen/talos/resource/definitions/cluster/cluster_pb.ts";
import * as etcd from "#gen/talos/resource/definitions/etcd/etcd_pb.ts";
import * as extensions from "#gen/talos/resource/definitions/extensions/extensions_pb.ts";
import * as hardware from "#gen/talos/resource/definitions/hardware/hardware_pb.ts";
import * as k8s from "#gen/talos/resource/definitions/k8s/k8s_pb.ts";
import * as network from "#gen/talos/resource/definitions/network/network_pb.ts";
import * as runtime from "#gen/talos/resource/definitions/runtime/runtime_pb.ts";
import * as time from "#gen/talos/resource/definitions/time/time_pb.ts";
import * as v1alpha1 from "#gen/talos/resource/definitions/v1alpha1/v1alpha1_pb.ts";
import type { TalosKind } from "./cosi.ts";

function kind<S extends Message>(type: string, namespace: string, spec: GenMessage<S>): TalosKind<S> {
  return { type, namespace, spec };
}

/** Kinds of Talos resources that the plane reads (protocols.md 6.3). */
export const talosKinds = {
  machineStatus: kind("MachineStatuses.runtime.talos.dev", "runtime", runtime.MachineStatusSpecSchema),
  securityState: kind("SecurityStates.talos.dev", "runtime", runtime.SecurityStateSpecSchema),
  platformMetadata: kind("PlatformMetadatas.talos.dev", "runtime", runtime.PlatformMetadataSpecSchema),
  kernelCmdline: kind("KernelCmdlines.runtime.talos.dev", "runtime", runtime.KernelCmdlineSpecSchema),
  extension: kind("ExtensionStatuses.runtime.talos.dev", "runtime", extensions.LayerSchema),
  diagnostic: kind("Diagnostics.runtime.talos.dev", "runtime", runtime.DiagnosticSpecSchema),
  service: kind("Services.v1alpha1.talos.dev", "runtime", v1alpha1.ServiceSpecSchema),
  systemInformation: kind("SystemInformations.hardware.talos.dev", "hardware", hardware.SystemInformationSpecSchema),
  processor: kind("Processors.hardware.talos.dev", "hardware", hardware.ProcessorSpecSchema),
  memoryModule: kind("MemoryModules.hardware.talos.dev", "hardware", hardware.MemoryModuleSpecSchema),
  disk: kind("Disks.block.talos.dev", "runtime", block.DiskSpecSchema),
  systemDisk: kind("SystemDisks.block.talos.dev", "runtime", block.SystemDiskSpecSchema),
  link: kind("LinkStatuses.net.talos.dev", "network", network.LinkStatusSpecSchema),
  nodeAddress: kind("NodeAddresses.net.talos.dev", "network", network.NodeAddressSpecSchema),
  hostname: kind("HostnameStatuses.net.talos.dev", "network", network.HostnameStatusSpecSchema),
  route: kind("RouteStatuses.net.talos.dev", "network", network.RouteStatusSpecSchema),
  resolver: kind("ResolverStatuses.net.talos.dev", "network", network.ResolverStatusSpecSchema),
  timeServer: kind("TimeServerStatuses.net.talos.dev", "network", network.TimeServerStatusSpecSchema),
  time: kind("TimeStatuses.v1alpha1.talos.dev", "runtime", time.StatusSpecSchema),
  nodename: kind("Nodenames.kubernetes.talos.dev", "k8s", k8s.NodenameSpecSchema),
  nodeIP: kind("NodeIPs.kubernetes.talos.dev", "k8s", k8s.NodeIPSpecSchema),
  etcdMember: kind("EtcdMembers.etcd.talos.dev", "etcd", etcd.MemberSpecSchema),
  identity: kind("Identities.cluster.talos.dev", "cluster", cluster.IdentitySpecSchema),
} as const;
