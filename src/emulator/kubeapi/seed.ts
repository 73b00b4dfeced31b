import type { KubeObject, KubeObjects } from "./objects.ts";

/** What every new cluster holds: namespaces, the API's own service, standing roles. Present objects stay. */
export function seedObjects(objects: KubeObjects): void {
  const put = (resource: string, object: KubeObject) => {
    if (!objects.get(resource, object.metadata.namespace ?? "", object.metadata.name)) objects.create(resource, object);
  };
  for (const name of ["default", "kube-system", "kube-public", "kube-node-lease"]) {
    put("/namespaces", {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, labels: { "kubernetes.io/metadata.name": name } },
      spec: { finalizers: ["kubernetes"] },
      status: { phase: "Active" },
    });
    put("/serviceaccounts", {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: "default", namespace: name },
    });
  }
  put("/services", {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "kubernetes", namespace: "default", labels: { component: "apiserver", provider: "kubernetes" } },
    spec: {
      type: "ClusterIP",
      clusterIP: "10.96.0.1",
      clusterIPs: ["10.96.0.1"],
      ports: [{ name: "https", port: 443, protocol: "TCP", targetPort: 6443 }],
    },
    status: { loadBalancer: {} },
  });
  const rbac = "rbac.authorization.k8s.io";
  const role = (name: string, rules: object[]) =>
    put(`${rbac}/clusterroles`, { apiVersion: `${rbac}/v1`, kind: "ClusterRole", metadata: { name }, rules });
  const all = { apiGroups: ["*"], resources: ["*"] };
  role("cluster-admin", [{ ...all, verbs: ["*"] }]);
  role("admin", [{ ...all, verbs: ["*"] }]);
  role("edit", [{ ...all, verbs: ["*"] }]);
  role("view", [{ ...all, verbs: ["get", "list", "watch"] }]);
  put(`${rbac}/clusterrolebindings`, {
    apiVersion: `${rbac}/v1`,
    kind: "ClusterRoleBinding",
    metadata: { name: "cluster-admin" },
    roleRef: { apiGroup: rbac, kind: "ClusterRole", name: "cluster-admin" },
    subjects: [{ apiGroup: rbac, kind: "Group", name: "system:masters" }],
  });
}
