import type { KubeObject, KubeObjects } from "./objects.ts";

/** A resource that the API serves. */
export interface KubeResource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly short: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly string[];
  /** Columns of a CustomResourceDefinition. */
  readonly columns?: readonly { readonly name: string; readonly jsonPath: string; readonly type: string }[];
}

function builtIn(group: string, version: string, lines: string): KubeResource[] {
  return lines
    .trim()
    .split("\n")
    .map((line) => {
      const [plural = "", kind = "", scope, short = "", subresources = "", categories = ""] = line.trim().split(/\s+/);
      const list = (text: string) => (text === "-" || text === "" ? [] : text.split(","));
      return {
        group,
        version,
        plural,
        kind,
        singular: kind.toLowerCase(),
        namespaced: scope === "n",
        short: list(short),
        subresources: list(subresources),
        categories: list(categories),
      };
    });
}

const native: readonly KubeResource[] = [
  ...builtIn(
    "",
    "v1",
    `namespaces Namespace c ns status,finalize
     nodes Node c no status
     pods Pod n po status,log,exec,attach,portforward,eviction,binding all
     services Service n svc status all
     endpoints Endpoints n ep
     events Event n ev
     configmaps ConfigMap n cm
     secrets Secret n -
     serviceaccounts ServiceAccount n sa token
     persistentvolumes PersistentVolume c pv status
     persistentvolumeclaims PersistentVolumeClaim n pvc status
     replicationcontrollers ReplicationController n rc status,scale all
     resourcequotas ResourceQuota n quota status
     limitranges LimitRange n limits
     podtemplates PodTemplate n -`,
  ),
  ...builtIn(
    "apps",
    "v1",
    `deployments Deployment n deploy status,scale all
     replicasets ReplicaSet n rs status,scale all
     daemonsets DaemonSet n ds status all
     statefulsets StatefulSet n sts status,scale all
     controllerrevisions ControllerRevision n -`,
  ),
  ...builtIn("batch", "v1", "jobs Job n - status all\ncronjobs CronJob n cj status all"),
  ...builtIn("autoscaling", "v2", "horizontalpodautoscalers HorizontalPodAutoscaler n hpa status all"),
  ...builtIn("policy", "v1", "poddisruptionbudgets PodDisruptionBudget n pdb status"),
  ...builtIn(
    "networking.k8s.io",
    "v1",
    `ingresses Ingress n ing status
     ingressclasses IngressClass c -
     networkpolicies NetworkPolicy n netpol
     servicecidrs ServiceCIDR c -
     ipaddresses IPAddress c ip`,
  ),
  ...builtIn("discovery.k8s.io", "v1", "endpointslices EndpointSlice n -"),
  ...builtIn(
    "rbac.authorization.k8s.io",
    "v1",
    "roles Role n -\nrolebindings RoleBinding n -\nclusterroles ClusterRole c -\nclusterrolebindings ClusterRoleBinding c -",
  ),
  ...builtIn(
    "storage.k8s.io",
    "v1",
    "storageclasses StorageClass c sc\ncsidrivers CSIDriver c -\ncsinodes CSINode c -\nvolumeattachments VolumeAttachment c - status\ncsistoragecapacities CSIStorageCapacity n -",
  ),
  ...builtIn("scheduling.k8s.io", "v1", "priorityclasses PriorityClass c pc"),
  ...builtIn("coordination.k8s.io", "v1", "leases Lease n -"),
  ...builtIn("node.k8s.io", "v1", "runtimeclasses RuntimeClass c -"),
  ...builtIn("events.k8s.io", "v1", "events Event n ev"),
  ...builtIn("certificates.k8s.io", "v1", "certificatesigningrequests CertificateSigningRequest c csr status,approval"),
  ...builtIn("apiextensions.k8s.io", "v1", "customresourcedefinitions CustomResourceDefinition c crd,crds status"),
  ...builtIn("apiregistration.k8s.io", "v1", "apiservices APIService c - status"),
  ...builtIn(
    "admissionregistration.k8s.io",
    "v1",
    `mutatingwebhookconfigurations MutatingWebhookConfiguration c -
     validatingwebhookconfigurations ValidatingWebhookConfiguration c -
     validatingadmissionpolicies ValidatingAdmissionPolicy c - status
     validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding c -`,
  ),
  ...builtIn(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews SelfSubjectAccessReview c -\nselfsubjectrulesreviews SelfSubjectRulesReview c -\nsubjectaccessreviews SubjectAccessReview c -",
  ),
  ...builtIn("authentication.k8s.io", "v1", "selfsubjectreviews SelfSubjectReview c -\ntokenreviews TokenReview c -"),
];

/** Reviews are answered, never stored. */
export const reviews: ReadonlySet<string> = new Set([
  "selfsubjectaccessreviews",
  "selfsubjectrulesreviews",
  "subjectaccessreviews",
  "selfsubjectreviews",
  "tokenreviews",
]);

/** All resources: the built-in ones and those of CustomResourceDefinitions. */
export function resourcesOf(objects: KubeObjects): KubeResource[] {
  return [...native, ...objects.list("apiextensions.k8s.io/customresourcedefinitions").flatMap(fromDefinition)];
}

/** Key of a resource in the store: all versions of a group share it. */
export function storeKey(resource: KubeResource): string {
  return `${resource.group === "events.k8s.io" ? "" : resource.group}/${resource.plural}`;
}

function fromDefinition(definition: KubeObject): KubeResource[] {
  const spec = definition.spec as {
    group?: string;
    scope?: string;
    names?: { plural?: string; singular?: string; kind?: string; shortNames?: string[]; categories?: string[] };
    versions?: {
      name?: string;
      served?: boolean;
      subresources?: object;
      additionalPrinterColumns?: { name: string; jsonPath: string; type: string }[];
    }[];
  };
  const { group, names } = spec ?? {};
  if (!group || !names?.plural || !names.kind || !Array.isArray(spec.versions)) return [];
  const { plural, kind } = names;
  return spec.versions
    .filter((version) => version.served !== false && typeof version.name === "string")
    .map((version) => ({
      group,
      version: version.name ?? "v1",
      plural,
      kind,
      singular: names.singular ?? kind.toLowerCase(),
      namespaced: spec.scope !== "Cluster",
      short: names.shortNames ?? [],
      categories: names.categories ?? [],
      subresources: Object.keys(version.subresources ?? {}),
      ...(version.additionalPrinterColumns ? { columns: version.additionalPrinterColumns } : {}),
    }));
}
