// Written by tools/kinds.ts; do not edit.
import type { AnyKind } from "#resource/kind.ts";
import { ControllerStatusKind } from "./access/controller-status.ts";
import { PlaneKeyKind } from "./access/plane-key.ts";
import { SessionKind } from "./access/session.ts";
import { SysVersionKind } from "./access/sys-version.ts";
import { ClusterKind } from "./cluster/cluster.ts";
import { ClusterBootstrapStatusKind } from "./cluster/cluster-bootstrap-status.ts";
import { ClusterEndpointKind } from "./cluster/cluster-endpoint.ts";
import { ClusterMachineKind } from "./cluster/cluster-machine.ts";
import { ClusterMachineConfigKind } from "./cluster/cluster-machine-config.ts";
import { ClusterMachineConfigPatchesKind } from "./cluster/cluster-machine-config-patches.ts";
import { ClusterMachineConfigStatusKind } from "./cluster/cluster-machine-config-status.ts";
import { ClusterMachineIdentityKind } from "./cluster/cluster-machine-identity.ts";
import { ClusterMachineStatusKind } from "./cluster/cluster-machine-status.ts";
import { ClusterProgressKind } from "./cluster/cluster-progress.ts";
import { ClusterSecretsKind } from "./cluster/cluster-secrets.ts";
import { ClusterStatusKind } from "./cluster/cluster-status.ts";
import { ClusterUUIDKind } from "./cluster/cluster-uuid.ts";
import { ConfigPatchKind } from "./cluster/config-patch.ts";
import { ControlPlaneStatusKind } from "./cluster/control-plane-status.ts";
import { ExtensionsConfigurationKind } from "./cluster/extensions-configuration.ts";
import { KernelArgsKind } from "./cluster/kernel-args.ts";
import { KubernetesManifestGroupKind } from "./cluster/kubernetes-manifest-group.ts";
import { KubernetesStatusKind } from "./cluster/kubernetes-status.ts";
import { LoadBalancerConfigKind } from "./cluster/load-balancer-config.ts";
import { LoadBalancerStatusKind } from "./cluster/load-balancer-status.ts";
import { MachineSetKind } from "./cluster/machine-set.ts";
import { MachineSetNodeKind } from "./cluster/machine-set-node.ts";
import { MachineSetStatusKind } from "./cluster/machine-set-status.ts";
import { RedactedClusterMachineConfigKind } from "./cluster/redacted-cluster-machine-config.ts";
import { DefaultJoinTokenKind } from "./machine/default-join-token.ts";
import { GRPCTunnelConfigKind } from "./machine/grpc-tunnel-config.ts";
import { JoinTokenKind } from "./machine/join-token.ts";
import { JoinTokenStatusKind } from "./machine/join-token-status.ts";
import { JoinTokenUsageKind } from "./machine/join-token-usage.ts";
import { LinkKind } from "./machine/link.ts";
import { LinkStatusKind } from "./machine/link-status.ts";
import { MachineKind } from "./machine/machine.ts";
import { MachineClassKind } from "./machine/machine-class.ts";
import { MachineConfigGenOptionsKind } from "./machine/machine-config-gen-options.ts";
import { MachineDetailsKind } from "./machine/machine-details.ts";
import { MachineLabelsKind } from "./machine/machine-labels.ts";
import { MachineOperationKind } from "./machine/machine-operation.ts";
import { MachineServicesKind } from "./machine/machine-services.ts";
import { MachineStatusKind } from "./machine/machine-status.ts";
import { MachineStatusLinkKind } from "./machine/machine-status-link.ts";
import { MachineStatusSnapshotKind } from "./machine/machine-status-snapshot.ts";
import { NodeUniqueTokenKind } from "./machine/node-unique-token.ts";
import { PendingMachineKind } from "./machine/pending-machine.ts";
import { PendingMachineStatusKind } from "./machine/pending-machine-status.ts";
import { SiderolinkAPIConfigKind } from "./machine/siderolink-api-config.ts";
import { ClusterConfigVersionKind } from "./upgrade/cluster-config-version.ts";
import { KubernetesVersionKind } from "./upgrade/kubernetes-version.ts";
import { TalosVersionKind } from "./upgrade/talos-version.ts";

/** Every kind there is. */
export const allKinds: readonly AnyKind[] = [
  ControllerStatusKind,
  PlaneKeyKind,
  SessionKind,
  SysVersionKind,
  ClusterBootstrapStatusKind,
  ClusterEndpointKind,
  ClusterMachineConfigPatchesKind,
  ClusterMachineConfigStatusKind,
  ClusterMachineConfigKind,
  ClusterMachineIdentityKind,
  ClusterMachineStatusKind,
  ClusterMachineKind,
  ClusterProgressKind,
  ClusterSecretsKind,
  ClusterStatusKind,
  ClusterUUIDKind,
  ClusterKind,
  ConfigPatchKind,
  ControlPlaneStatusKind,
  ExtensionsConfigurationKind,
  KernelArgsKind,
  KubernetesManifestGroupKind,
  KubernetesStatusKind,
  LoadBalancerConfigKind,
  LoadBalancerStatusKind,
  MachineSetNodeKind,
  MachineSetStatusKind,
  MachineSetKind,
  RedactedClusterMachineConfigKind,
  DefaultJoinTokenKind,
  GRPCTunnelConfigKind,
  JoinTokenStatusKind,
  JoinTokenUsageKind,
  JoinTokenKind,
  LinkStatusKind,
  LinkKind,
  MachineClassKind,
  MachineConfigGenOptionsKind,
  MachineDetailsKind,
  MachineLabelsKind,
  MachineOperationKind,
  MachineServicesKind,
  MachineStatusLinkKind,
  MachineStatusSnapshotKind,
  MachineStatusKind,
  MachineKind,
  NodeUniqueTokenKind,
  PendingMachineStatusKind,
  PendingMachineKind,
  SiderolinkAPIConfigKind,
  ClusterConfigVersionKind,
  KubernetesVersionKind,
  TalosVersionKind,
];

const byType = new Map(allKinds.map((kind) => [kind.type, kind]));

/** The kind of a public type name, `Clusters.omni.sidero.dev`; undefined when there is none. */
export function kindOf(type: string): AnyKind | undefined {
  return byType.get(type);
}
