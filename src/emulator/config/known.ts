const words = (text: string) => new Set(text.trim().split(/\s+/));

/** Keys of the v1alpha1 document. */
export const topKeys = words("version debug persist machine cluster");

/** Keys of its `machine` section. */
export const machineKeys = words(`
  type token ca acceptedCAs certSANs controlPlane kubelet pods network disks install files env time sysctls sysfs registries systemDiskEncryption
  features udev logging kernel seccompProfiles baseRuntimeSpecOverrides nodeLabels nodeAnnotations nodeTaints`);

/** Keys of its `cluster` section. */
export const clusterKeys = words(`
  id secret controlPlane clusterName network token aescbcEncryptionSecret secretboxEncryptionSecret ca acceptedCAs aggregatorCA serviceAccount
  apiServer controllerManager proxy scheduler discovery etcd coreDNS externalCloudProvider extraManifests extraManifestHeaders inlineManifests
  adminKubeconfig allowSchedulingOnControlPlanes allowSchedulingOnMasters`);

/** Document kinds that Talos 1.11 to 1.14 know. */
export const kinds = words(`
  SideroLinkConfig EventSinkConfig KmsgLogConfig TrustedRootsConfig ExtensionServiceConfig WatchdogTimerConfig KubespanEndpointsConfig
  NetworkDefaultActionConfig NetworkRuleConfig VolumeConfig UserVolumeConfig RawVolumeConfig ExistingVolumeConfig ExternalVolumeConfig SwapVolumeConfig
  ZswapConfig EthernetConfig PCIDriverRebindConfig OOMConfig HostnameConfig LinkConfig LinkAliasConfig BondConfig BridgeConfig VLANConfig
  DummyLinkConfig WireguardConfig DHCPv4Config DHCPv6Config Layer2VIPConfig HCloudVIPConfig StaticHostConfig ResolverConfig TimeSyncConfig
  TCPProbeConfig HTTPProbeConfig RegistryMirrorConfig RegistryAuthConfig RegistryTLSConfig KubeSpanConfig EnvironmentConfig ImageVerificationConfig
  ImageCacheConfig BlackholeRouteConfig RoutingRuleConfig VRFConfig VethConfig LVMVolumeGroupConfig BGPConfig
  DiscoveryServiceConfig DiscoveryIdentityConfig UnattendedInstallConfig FilesystemTrimConfig FilesystemScrubConfig SecurityProfileConfig SysctlConfig
  SysfsConfig KernelModuleConfig KubeClusterConfig KubeNodeConfig KubeletConfig KubeNetworkConfig KubeAPIServerCAConfig KubePrismConfig
  KubeAggregatorCAConfig KubeAdmissionControlConfig KubeAuditPolicyConfig KubeAuthenticationConfig KubeAuthorizerConfig KubeEtcdEncryptionConfig
  KubeServiceAccountConfig KubeAPIServerConfig KubeControllerManagerConfig KubeSchedulerConfig KubeProxyConfig KubeFlannelCNIConfig KubeCoreDNSConfig
  KubeCredentialProviderConfig KubeExternalManifestConfig KubeInlineManifestConfig KubeAccessConfig UdevRulesConfig ServiceLogConfig`);
