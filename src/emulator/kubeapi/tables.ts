import type { KubeResource } from "./catalog.ts";
import type { KubeObject } from "./objects.ts";

interface TableColumn {
  readonly name: string;
  readonly type?: string;
  readonly priority?: number;
  value(object: KubeObject, now: number): unknown;
}

type Loose = { [key: string]: Loose } & { readonly [index: number]: Loose } & (() => never);
const loose = (value: unknown) => value as Loose | undefined;
const text = (value: unknown) => (value === undefined || value === null ? "" : String(value));

const name: TableColumn = { name: "Name", value: (object) => object.metadata.name };
const age: TableColumn = { name: "Age", value: (object, now) => since(object.metadata.creationTimestamp, now) };

const columns: Record<string, TableColumn[]> = {
  "/nodes": [
    name,
    { name: "Status", value: nodeStatus },
    { name: "Roles", value: nodeRoles },
    age,
    { name: "Version", value: (node) => text(loose(node.status)?.nodeInfo?.kubeletVersion) },
    { name: "Internal-IP", priority: 1, value: (node) => nodeAddress(node) },
    { name: "External-IP", priority: 1, value: () => "<none>" },
    { name: "OS-Image", priority: 1, value: (node) => text(loose(node.status)?.nodeInfo?.osImage) },
    { name: "Kernel-Version", priority: 1, value: (node) => text(loose(node.status)?.nodeInfo?.kernelVersion) },
    {
      name: "Container-Runtime",
      priority: 1,
      value: (node) => text(loose(node.status)?.nodeInfo?.containerRuntimeVersion),
    },
  ],
  "/pods": [
    name,
    { name: "Ready", value: podReady },
    {
      name: "Status",
      value: (pod) => (pod.metadata.deletionTimestamp ? "Terminating" : text(loose(pod.status)?.phase || "Pending")),
    },
    { name: "Restarts", value: () => "0" },
    age,
    { name: "IP", priority: 1, value: (pod) => text(loose(pod.status)?.podIP || "<none>") },
    { name: "Node", priority: 1, value: (pod) => text(loose(pod.spec)?.nodeName || "<none>") },
    { name: "Nominated Node", priority: 1, value: () => "<none>" },
    { name: "Readiness Gates", priority: 1, value: () => "<none>" },
  ],
  "/namespaces": [
    name,
    { name: "Status", value: (namespace) => (namespace.metadata.deletionTimestamp ? "Terminating" : "Active") },
    age,
  ],
  "/services": [
    name,
    { name: "Type", value: (service) => text(loose(service.spec)?.type || "ClusterIP") },
    { name: "Cluster-IP", value: (service) => text(loose(service.spec)?.clusterIP || "None") },
    { name: "External-IP", value: () => "<none>" },
    {
      name: "Port(s)",
      value: (service) =>
        ((loose(service.spec)?.ports ?? []) as unknown as { port: number; protocol?: string }[])
          .map((port) => `${port.port}/${port.protocol ?? "TCP"}`)
          .join(","),
    },
    age,
  ],
  "/configmaps": [
    name,
    { name: "Data", value: (map) => Object.keys((map.data as object | undefined) ?? {}).length },
    age,
  ],
  "/secrets": [
    name,
    { name: "Type", value: (secret) => text(secret.type ?? "Opaque") },
    { name: "Data", value: (secret) => Object.keys((secret.data as object | undefined) ?? {}).length },
    age,
  ],
  "apps/deployments": [
    name,
    {
      name: "Ready",
      value: (item) => `${text(loose(item.status)?.readyReplicas ?? 0)}/${text(loose(item.spec)?.replicas ?? 1)}`,
    },
    { name: "Up-to-date", value: (item) => text(loose(item.status)?.updatedReplicas ?? 0) },
    { name: "Available", value: (item) => text(loose(item.status)?.availableReplicas ?? 0) },
    age,
  ],
};

/** A list or one object as a Table, for `kubectl get`. */
export function toTable(
  resource: KubeResource,
  key: string,
  objects: readonly KubeObject[],
  version: string,
  now: number,
  include: string,
): object {
  const own = columns[key] ?? [
    name,
    ...(resource.columns ?? []).filter((column) => column.jsonPath !== ".metadata.creationTimestamp").map(custom),
    age,
  ];
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: { resourceVersion: version },
    columnDefinitions: own.map((column) => ({
      name: column.name,
      type: column.type ?? "string",
      format: column.name === "Name" ? "name" : "",
      description: column.name,
      priority: column.priority ?? 0,
    })),
    rows: objects.map((object) => ({
      cells: own.map((column) => cell(column, object, now)),
      ...(include === "None"
        ? {}
        : {
            object:
              include === "Object"
                ? object
                : { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata },
          }),
    })),
  };
}

/** A column reads what it expects; an object may hold something else there. */
function cell(column: TableColumn, object: KubeObject, now: number): unknown {
  try {
    return column.value(object, now);
  } catch {
    return "<invalid>";
  }
}

function custom(column: { readonly name: string; readonly jsonPath: string; readonly type: string }): TableColumn {
  const path = column.jsonPath.replace(/^\./, "").split(".");
  return {
    name: column.name,
    type: column.type,
    value: (object) => {
      let value: unknown = object;
      for (const part of path)
        value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[part] : undefined;
      return typeof value === "object" ? JSON.stringify(value) : (value ?? "");
    },
  };
}

function nodeStatus(node: KubeObject): string {
  const conditions = (loose(node.status)?.conditions ?? []) as unknown as { type: string; status: string }[];
  const ready = conditions.find((condition) => condition.type === "Ready");
  const words = [ready ? (ready.status === "True" ? "Ready" : "NotReady") : "Unknown"];
  if (loose(node.spec)?.unschedulable) words.push("SchedulingDisabled");
  return words.join(",");
}

function nodeRoles(node: KubeObject): string {
  const prefix = "node-role.kubernetes.io/";
  const roles = Object.keys(node.metadata.labels ?? {})
    .filter((label) => label.startsWith(prefix))
    .map((label) => label.slice(prefix.length));
  return roles.sort().join(",") || "<none>";
}

function nodeAddress(node: KubeObject): string {
  const addresses = (loose(node.status)?.addresses ?? []) as unknown as { type: string; address: string }[];
  return addresses.find((address) => address.type === "InternalIP")?.address ?? "<none>";
}

function podReady(pod: KubeObject): string {
  const containers = ((loose(pod.spec)?.containers ?? []) as unknown as unknown[]).length;
  const ready = ((loose(pod.status)?.containerStatuses ?? []) as unknown as { ready: boolean }[]).filter(
    (status) => status.ready,
  ).length;
  return `${ready}/${containers}`;
}

/** An age as kubectl prints it. */
export function since(timestamp: string | undefined, now: number): string {
  if (!timestamp) return "<unknown>";
  const seconds = Math.max(0, Math.floor((now - Date.parse(timestamp)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return `${minutes}m${seconds % 60 ? `${seconds % 60}s` : ""}`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return `${hours}h${minutes % 60 ? `${minutes % 60}m` : ""}`;
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}
