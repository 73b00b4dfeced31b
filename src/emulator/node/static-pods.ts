import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import type { KubeObject } from "#emulator/kubeapi/objects.ts";
import { types } from "#emulator/state/types.ts";

/** The control plane's own pods: mirrored into kube-system, and shown as the machine's static pods, until the boot ends. */
export function runStaticPods(boot: Boot, cluster: Cluster): void {
  const { hostname } = boot;
  mirror(boot, cluster);
  let images = JSON.stringify(boot.config?.images);
  // Another image is another version of Kubernetes: the kubelet starts the pod anew.
  boot.onConfig.add(() => {
    const now = JSON.stringify(boot.config?.images);
    if (now !== images) mirror(boot, cluster);
    images = now;
  });
  boot.signal.addEventListener(
    "abort",
    () => {
      for (const pod of cluster.objects.list("/pods", "kube-system")) {
        if ((pod.spec as { nodeName?: string } | undefined)?.nodeName !== hostname) continue;
        cluster.objects.update("/pods", {
          ...pod,
          status: {
            ...(pod.status as object),
            conditions: [{ type: "Ready", status: "False", reason: "NodeNotReady" }],
          },
        });
      }
    },
    { once: true },
  );
}

function mirror(boot: Boot, cluster: Cluster): void {
  const { config, hostname } = boot;
  if (!config) return;
  const kubernetes = boot.chassis.release.kubernetes;
  for (const [component, image] of [
    ["kube-apiserver", config.images.apiServer],
    ["kube-controller-manager", config.images.controllerManager],
    ["kube-scheduler", config.images.scheduler],
  ] as const) {
    const name = `${component}-${hostname}`;
    const pod = podObject(boot, name, component, image || `registry.k8s.io/${component}:v${kubernetes}`);
    boot.state.put(types.staticPodStatus, `kube-system/${name}`, { podStatus: pod.status as never });
    // No kubelet mirrors them into a real API.
    if (cluster.real) continue;
    const known = cluster.objects.get("/pods", "kube-system", name);
    if (known) cluster.objects.update("/pods", { ...pod, metadata: { ...known.metadata, ...pod.metadata } });
    else cluster.objects.create("/pods", pod);
  }
}

function podObject(boot: Boot, name: string, component: string, image: string): KubeObject {
  const now = new Date(boot.chassis.clock.now()).toISOString().replace(/\.\d+/, "");
  const address = boot.chassis.hardware.lan.address;
  const condition = (type: string) => ({ type, status: "True", lastTransitionTime: now });
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "kube-system",
      labels: { tier: "control-plane", "k8s-app": component, component },
      annotations: { "kubernetes.io/config.source": "file", "kubernetes.io/config.mirror": "emulated" },
    },
    spec: {
      nodeName: boot.hostname,
      hostNetwork: true,
      priorityClassName: "system-cluster-critical",
      containers: [{ name: component, image, command: [`/usr/local/bin/${component}`] }],
    },
    status: {
      phase: "Running",
      hostIP: address,
      podIP: address,
      podIPs: [{ ip: address }],
      startTime: now,
      conditions: ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition),
      containerStatuses: [
        {
          name: component,
          image,
          imageID: image,
          ready: true,
          started: true,
          restartCount: 0,
          state: { running: { startedAt: now } },
          containerID: `containerd://${boot.bootId}`,
        },
      ],
    },
  };
}
