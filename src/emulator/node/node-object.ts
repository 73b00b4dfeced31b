import type { Boot } from "#emulator/boot.ts";
import type { KubeObject } from "#emulator/kubeapi/objects.ts";
import { types } from "#emulator/state/types.ts";

/** The Node of a machine, as its kubelet registers it. */
export function nodeObject(boot: Boot): KubeObject {
  const { config, chassis, hostname } = boot;
  const { hardware, release } = chassis;
  const version = /:v?([^@]+)/.exec(config?.kubeletImage.split("/").at(-1) ?? "")?.[1] ?? release.kubernetes;
  const capacity = {
    cpu: String(hardware.board.cpu.threads),
    memory: `${hardware.memory.reduce((sum, module) => sum + module.mib, 0) * 1024}Ki`,
    pods: "110",
    "ephemeral-storage": `${Math.floor((hardware.disks[0]?.bytes ?? 0) / 1024)}Ki`,
  };
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: hostname,
      labels: {
        "beta.kubernetes.io/arch": hardware.board.arch,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": hardware.board.arch,
        "kubernetes.io/hostname": hostname,
        "kubernetes.io/os": "linux",
        ...(config?.controlPlane ? { "node-role.kubernetes.io/control-plane": "" } : {}),
        ...config?.nodeLabels,
      },
      annotations: { "talos.dev/owned-labels": "[]" },
    },
    spec:
      config?.controlPlane && !config.schedulable
        ? { taints: [{ key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" }] }
        : {},
    status: {
      capacity,
      allocatable: capacity,
      addresses: [
        { type: "InternalIP", address: hardware.lan.address },
        { type: "Hostname", address: hostname },
      ],
      nodeInfo: {
        machineID: hardware.uuid.replaceAll("-", ""),
        systemUUID: hardware.uuid,
        bootID: boot.bootId,
        kernelVersion: release.kernel,
        osImage: `Talos (${release.tag})`,
        containerRuntimeVersion: `containerd://${release.containerd}`,
        kubeletVersion: `v${version}`,
        kubeProxyVersion: "",
        operatingSystem: "linux",
        architecture: hardware.board.arch,
      },
      conditions: [],
    },
  };
}

/** What a kubelet says of its node; `ready` undefined is what the control plane says when the kubelet is silent. */
export function conditionsOf(boot: Boot, ready: boolean | undefined): object[] {
  const now = new Date(boot.chassis.clock.now()).toISOString().replace(/\.\d+/, "");
  const condition = (type: string, status: string, reason: string, message: string) => ({
    type,
    status,
    reason,
    message,
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  return [
    condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ready === undefined
      ? condition("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
      : ready
        ? condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")
        : condition("Ready", "False", "KubeletNotReady", "container runtime network not ready"),
  ];
}

/** Shows a node as the machine's own resource, undefined when it was deleted. */
export function showNode(boot: Boot, node: KubeObject | undefined): void {
  if (!node) {
    boot.state.remove(types.nodeStatus, boot.hostname);
    return;
  }
  const status = node.status as { conditions?: { type: string; status: string }[] } | undefined;
  boot.state.put(types.nodeStatus, boot.hostname, {
    nodename: boot.hostname,
    nodeReady:
      status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") ?? false,
    unschedulable: (node.spec as { unschedulable?: boolean } | undefined)?.unschedulable ?? false,
    labels: node.metadata.labels ?? {},
    annotations: node.metadata.annotations ?? {},
  });
}
