import { randomBytes } from "node:crypto";
import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import type { KubeObject, KubeObjects, ObjectEvent } from "./objects.ts";
import { containersOf } from "./pods.ts";

type Fields = { [key: string]: unknown };
const fields = (value: unknown): Fields => (typeof value === "object" && value !== null ? (value as Fields) : {});

const active = new WeakMap<KubeObjects, { boot: Boot; stop: () => void }>();

/**
 * What controller manager and scheduler do, very small: Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs get pods, pods get a
 * ready node and run. One control plane at a time leads.
 */
export function startWorkloads(cluster: Cluster, boot: Boot): () => void {
  const { objects } = cluster;
  if (active.has(objects)) return () => {};
  let scheduled = false;
  const reconcile = () => {
    scheduled = false;
    if (active.get(objects)?.boot !== boot || !cluster.etcd.quorum) return;
    for (const kind of Object.keys(owners)) for (const owner of objects.list(kind)) expand(objects, kind, owner);
    for (const pod of objects.list("/pods")) place(objects, pod);
    for (const kind of Object.keys(owners)) for (const owner of objects.list(kind)) report(objects, kind, owner);
  };
  const wake = (event?: ObjectEvent) => {
    if (scheduled || (event && !["/pods", "/nodes", ...Object.keys(owners)].includes(event.resource))) return;
    scheduled = true;
    boot.chassis.clock.after(boot.chassis.delays.phase, () => {
      try {
        reconcile();
      } catch (error) {
        boot.chassis.log.debug({ error }, "emulated workloads failed");
      }
    });
  };
  const off = objects.subscribe(wake);
  const stop = () => {
    off();
    if (active.get(objects)?.boot !== boot) return;
    active.delete(objects);
    // The next control plane takes over.
    const next = cluster.peers.find((peer) => peer !== boot && peer.config?.controlPlane && !peer.signal.aborted);
    if (next) startWorkloads(cluster, next);
  };
  active.set(objects, { boot, stop });
  boot.signal.addEventListener("abort", stop, { once: true });
  wake();
  return stop;
}

const owners: Record<string, string> = {
  "apps/deployments": "Deployment",
  "apps/replicasets": "ReplicaSet",
  "apps/statefulsets": "StatefulSet",
  "apps/daemonsets": "DaemonSet",
  "batch/jobs": "Job",
};
const podLimit = 500;

function children(objects: KubeObjects, owner: KubeObject): KubeObject[] {
  return objects
    .list("/pods", owner.metadata.namespace)
    .filter((pod) => pod.metadata.ownerReferences?.some((reference) => reference.uid === owner.metadata.uid));
}

function expand(objects: KubeObjects, kind: string, owner: KubeObject): void {
  if (owner.metadata.deletionTimestamp || owner.metadata.ownerReferences?.some((reference) => reference.controller))
    return;
  const spec = fields(owner.spec);
  const template = fields(spec.template);
  const hash =
    JSON.stringify(template).length.toString(16) +
    [...JSON.stringify(template)].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, 7).toString(36);
  const own = children(objects, owner);
  const stale = own.filter((pod) => pod.metadata.labels?.["pod-template-hash"] !== hash);
  for (const pod of stale) objects.delete("/pods", pod.metadata.namespace ?? "", pod.metadata.name);
  const current = own.filter((pod) => !stale.includes(pod));
  const wanted =
    kind === "apps/daemonsets"
      ? objects.list("/nodes").map((node) => node.metadata.name)
      : Array.from({ length: Math.min(podLimit, Number(spec.replicas ?? spec.completions ?? 1) || 0) }, () => "");
  const nodes = wanted.filter((node) => node === "" || !current.some((pod) => fields(pod.spec).nodeName === node));
  const missing = kind === "apps/daemonsets" ? nodes : nodes.slice(0, Math.max(0, wanted.length - current.length));
  for (const node of missing) {
    const metadata = fields(template.metadata);
    objects.create("/pods", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: `${owner.metadata.name}-${hash.slice(0, 8)}-${randomBytes(3).toString("hex").slice(0, 5)}`,
        namespace: owner.metadata.namespace ?? "default",
        labels: { ...(fields(metadata.labels) as Record<string, string>), "pod-template-hash": hash },
        annotations: fields(metadata.annotations) as Record<string, string>,
        ownerReferences: [
          {
            apiVersion: owner.apiVersion,
            kind: owners[kind]!,
            name: owner.metadata.name,
            uid: owner.metadata.uid!,
            controller: true,
          } as never,
        ],
      },
      spec: { restartPolicy: "Always", ...fields(template.spec), ...(node ? { nodeName: node } : {}) },
      status: { phase: "Pending" },
    });
  }
  if (kind !== "apps/daemonsets") {
    for (const pod of current.slice(wanted.length))
      objects.delete("/pods", pod.metadata.namespace ?? "", pod.metadata.name);
  }
}

function place(objects: KubeObjects, pod: KubeObject): void {
  const status = fields(pod.status);
  const spec = fields(pod.spec);
  if (pod.metadata.annotations?.["kubernetes.io/config.mirror"]) return;
  const node = typeof spec.nodeName === "string" ? objects.get("/nodes", "", spec.nodeName) : undefined;
  if (spec.nodeName && !node) {
    objects.delete("/pods", pod.metadata.namespace ?? "", pod.metadata.name);
    return;
  }
  if (status.phase === "Running" || status.phase === "Succeeded") return;
  const chosen = node ?? choose(objects, pod);
  if (!chosen || !isReady(chosen)) return;
  const now = new Date().toISOString().replace(/\.\d+/, "");
  const condition = (type: string) => ({ type, status: "True", lastTransitionTime: now });
  const addresses = (fields(chosen.status).addresses as { type: string; address: string }[] | undefined) ?? [];
  const name = pod.metadata.name;
  const ip = podAddress(name);
  const containers = (spec.containers as { name?: string; image?: string }[] | undefined) ?? [];
  objects.update("/pods", {
    ...pod,
    spec: { ...spec, nodeName: chosen.metadata.name },
    status: {
      phase: "Running",
      hostIP: addresses.find((address) => address.type === "InternalIP")?.address,
      podIP: ip,
      podIPs: [{ ip }],
      startTime: now,
      qosClass: "BestEffort",
      conditions: ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition),
      containerStatuses: containersOf(pod).map((container) => {
        const image = containers.find((candidate) => candidate.name === container)?.image ?? "";
        return {
          name: container,
          image,
          imageID: image,
          ready: true,
          started: true,
          restartCount: 0,
          state: { running: { startedAt: now } },
          containerID: `containerd://${pod.metadata.uid}`,
        };
      }),
    },
  });
}

/** The ready, schedulable, tolerated node with the fewest pods. */
function choose(objects: KubeObjects, pod: KubeObject): KubeObject | undefined {
  const selector = fields(fields(pod.spec).nodeSelector);
  const tolerations = (fields(pod.spec).tolerations as { key?: string; operator?: string }[] | undefined) ?? [];
  const tolerates = (key: string) =>
    tolerations.some(
      (toleration) => toleration.key === key || (toleration.key === undefined && toleration.operator === "Exists"),
    );
  const counts = new Map<string, number>();
  for (const other of objects.list("/pods"))
    counts.set(String(fields(other.spec).nodeName), (counts.get(String(fields(other.spec).nodeName)) ?? 0) + 1);
  const candidates = objects.list("/nodes").filter((node) => {
    const spec = fields(node.spec);
    const taints = (spec.taints as { key: string; effect: string }[] | undefined) ?? [];
    return (
      isReady(node) &&
      !spec.unschedulable &&
      taints.every((taint) => taint.effect === "PreferNoSchedule" || tolerates(taint.key)) &&
      Object.entries(selector).every(([key, value]) => node.metadata.labels?.[key] === value)
    );
  });
  return candidates.sort((a, b) => (counts.get(a.metadata.name) ?? 0) - (counts.get(b.metadata.name) ?? 0))[0];
}

function isReady(node: KubeObject): boolean {
  const conditions = (fields(node.status).conditions as { type: string; status: string }[] | undefined) ?? [];
  return conditions.some((condition) => condition.type === "Ready" && condition.status === "True");
}

function report(objects: KubeObjects, kind: string, owner: KubeObject): void {
  const current = objects.get(kind, owner.metadata.namespace ?? "", owner.metadata.name);
  if (!current || current.metadata.deletionTimestamp) return;
  const own = children(objects, current);
  const running = own.filter((pod) => fields(pod.status).phase === "Running").length;
  const counts =
    kind === "apps/daemonsets"
      ? {
          desiredNumberScheduled: own.length,
          currentNumberScheduled: own.length,
          numberReady: running,
          numberAvailable: running,
          updatedNumberScheduled: own.length,
          numberMisscheduled: 0,
        }
      : kind === "batch/jobs"
        ? { active: running }
        : { replicas: own.length, readyReplicas: running, availableReplicas: running, updatedReplicas: own.length };
  const conditions =
    kind === "apps/deployments"
      ? {
          conditions: [
            {
              type: "Available",
              status: running > 0 || own.length === 0 ? "True" : "False",
              reason: "MinimumReplicasAvailable",
            },
            { type: "Progressing", status: "True", reason: "NewReplicaSetAvailable" },
          ],
        }
      : {};
  const generation = current.metadata.generation ?? 1;
  objects.update(kind, { ...current, status: { observedGeneration: generation, ...counts, ...conditions } });
}

/** An address of the pod network, from the pod's name. */
function podAddress(name: string): string {
  const hash = [...name].reduce((sum, letter) => (sum * 33 + letter.charCodeAt(0)) >>> 0, 5381);
  return `10.244.${(hash >> 8) & 255}.${2 + (hash % 250)}`;
}
