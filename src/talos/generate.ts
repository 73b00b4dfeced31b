import { base64, type SecretsBundle } from "./secrets.ts";

/** What a configuration is generated for. */
export interface GenerateOptions {
  /** Version contract, `1.11` to `1.13`: frozen when the cluster is made. */
  readonly contract: `1.${number}`;
  readonly clusterName: string;
  /** `https://HOST:PORT` of the Kubernetes API. */
  readonly endpoint: string;
  readonly secrets: SecretsBundle;
  readonly machineType: "controlplane" | "worker";
  /** Without `v`. */
  readonly kubernetesVersion: string;
  readonly installDisk: string;
  readonly installImage: string;
  /** Where Kubernetes images come from; default registry.k8s.io. */
  readonly kubernetesRegistry?: string;
  /** A cluster of this one machine: it takes workloads. */
  readonly schedulable?: boolean;
}

type Fields = Record<string, unknown>;

/**
 * The documents that stock `talosctl gen config --talos-version` generates with the same secrets (protocols.md 15.4, 15.5), as values.
 * Contracts from 1.14 on have another shape and are refused earlier, by `contractOf`.
 */
export function generateConfig(options: GenerateOptions): Fields[] {
  const minor = Number(options.contract.slice(2));
  const main = {
    version: "v1alpha1",
    debug: false,
    persist: true,
    machine: machine(options, minor),
    cluster: cluster(options, minor),
  };
  return minor >= 12 ? [main, { apiVersion: "v1alpha1", kind: "HostnameConfig", auto: "stable" }] : [main];
}

function machine({ machineType, secrets, ...options }: GenerateOptions, minor: number): Fields {
  const isControlPlane = machineType === "controlplane";
  return {
    type: machineType,
    token: secrets.trustdToken,
    ca: { crt: base64(secrets.os.crt), key: isControlPlane ? base64(secrets.os.key) : "" },
    certSANs: [],
    kubelet: {
      image: `ghcr.io/siderolabs/kubelet:v${options.kubernetesVersion}`,
      defaultRuntimeSeccompProfileEnabled: true,
      disableManifestsDirectory: true,
    },
    ...(minor < 13 ? { network: {} } : {}),
    install: {
      disk: options.installDisk,
      image: options.installImage,
      wipe: false,
      ...(minor >= 12 ? { grubUseUKICmdline: true } : {}),
    },
    ...(minor < 12 ? { registries: {} } : {}),
    features: {
      ...(minor < 12 ? { rbac: true, stableHostname: true, apidCheckExtKeyUsage: true } : {}),
      diskQuotaSupport: true,
      kubePrism: { enabled: true, port: 7445 },
      hostDNS: { enabled: true, forwardKubeDNSToHost: true },
    },
    ...(isControlPlane ? { nodeLabels: { "node.kubernetes.io/exclude-from-external-load-balancers": "" } } : {}),
  };
}

function cluster({ secrets, ...options }: GenerateOptions, minor: number): Fields {
  const isControlPlane = options.machineType === "controlplane";
  const image = (component: string) =>
    `${options.kubernetesRegistry ?? "registry.k8s.io"}/${component}:v${options.kubernetesVersion}`;
  const shared = {
    id: secrets.clusterId,
    secret: secrets.clusterSecret,
    controlPlane: { endpoint: options.endpoint },
    clusterName: options.clusterName,
    network: { dnsDomain: "cluster.local", podSubnets: ["10.244.0.0/16"], serviceSubnets: ["10.96.0.0/12"] },
    token: secrets.bootstrapToken,
  };
  const discovery = { discovery: { enabled: true, registries: { kubernetes: { disabled: true }, service: {} } } };
  if (!isControlPlane) return { ...shared, ca: { crt: base64(secrets.kubernetes.crt), key: "" }, ...discovery };
  return {
    ...shared,
    secretboxEncryptionSecret: secrets.secretboxEncryptionSecret,
    ca: { crt: base64(secrets.kubernetes.crt), key: base64(secrets.kubernetes.key) },
    aggregatorCA: { crt: base64(secrets.aggregator.crt), key: base64(secrets.aggregator.key) },
    serviceAccount: { key: base64(secrets.serviceAccountKey) },
    apiServer: {
      image: image("kube-apiserver"),
      ...(minor < 12 ? { certSANs: [hostOf(options.endpoint)], disablePodSecurityPolicy: true } : {}),
      admissionControl: [podSecurity],
      auditPolicy: { apiVersion: "audit.k8s.io/v1", kind: "Policy", rules: [{ level: "Metadata" }] },
    },
    controllerManager: { image: image("kube-controller-manager") },
    proxy: { image: image("kube-proxy") },
    scheduler: { image: image("kube-scheduler") },
    ...discovery,
    etcd: { ca: { crt: base64(secrets.etcd.crt), key: base64(secrets.etcd.key) } },
    ...(options.schedulable ? { allowSchedulingOnControlPlanes: true } : {}),
  };
}

const podSecurity = {
  name: "PodSecurity",
  configuration: {
    apiVersion: "pod-security.admission.config.k8s.io/v1alpha1",
    defaults: {
      audit: "restricted",
      "audit-version": "latest",
      enforce: "baseline",
      "enforce-version": "latest",
      warn: "restricted",
      "warn-version": "latest",
    },
    exemptions: { namespaces: ["kube-system"], runtimeClasses: [], usernames: [] },
    kind: "PodSecurityConfiguration",
  },
};

function hostOf(endpoint: string): string {
  return new URL(endpoint).hostname.replace(/^\[|\]$/g, "");
}
