import { z } from "zod";
import { type KubeResource, storeKey } from "./catalog.ts";
import { invalid } from "./status.ts";

/** What the emulator itself reads of an object must have the form that it takes for granted; the rest may be anything. */
const object = (fields: z.ZodRawShape) => z.looseObject(fields).nullish();
const text = z.string().nullish();
const texts = z.array(z.string()).nullish();
const map = z.record(z.string(), z.string()).nullish();
const list = (fields: z.ZodRawShape) => z.array(z.looseObject(fields)).nullish();
const count = z.number().int().min(0).nullish();

const metadata = z.looseObject({
  name: text,
  generateName: text,
  namespace: text,
  uid: text,
  resourceVersion: text,
  creationTimestamp: text,
  deletionTimestamp: text,
  generation: z.number().nullish(),
  labels: map,
  annotations: map,
  finalizers: texts,
  ownerReferences: list({ uid: z.string(), kind: z.string(), name: z.string() }),
  managedFields: list({}),
});

const podSpec = object({
  nodeName: text,
  nodeSelector: map,
  tolerations: list({ key: text, operator: text }),
  containers: list({ name: z.string(), image: text }),
});
const conditions = list({ type: z.string(), status: z.string() });
const workload = {
  spec: object({
    replicas: count,
    completions: count,
    selector: object({ matchLabels: map }),
    template: object({ metadata: object({ labels: map, annotations: map }), spec: podSpec }),
  }),
  status: object({ replicas: count }),
};
const rules = { rules: list({ verbs: texts, apiGroups: texts, resources: texts, resourceNames: texts }) };
const binding = {
  subjects: list({ kind: z.string(), name: z.string(), namespace: text }),
  roleRef: object({ kind: text, name: text }),
};
const review = {
  spec: object({ resourceAttributes: map, nonResourceAttributes: map }),
};

const kinds: Record<string, z.ZodRawShape> = {
  "/pods": { spec: podSpec, status: object({ phase: text, conditions }) },
  "/nodes": {
    spec: object({ unschedulable: z.boolean().nullish(), taints: list({ key: z.string(), effect: z.string() }) }),
    status: object({ conditions, addresses: list({ type: z.string(), address: z.string() }) }),
  },
  "/namespaces": { spec: object({}) },
  "/services": { spec: object({ clusterIP: text }) },
  "/secrets": { type: text, data: map, stringData: map },
  "/configmaps": { data: map, binaryData: map },
  "apps/deployments": workload,
  "apps/replicasets": workload,
  "apps/statefulsets": workload,
  "apps/daemonsets": workload,
  "batch/jobs": workload,
  "rbac.authorization.k8s.io/roles": rules,
  "rbac.authorization.k8s.io/clusterroles": rules,
  "rbac.authorization.k8s.io/rolebindings": binding,
  "rbac.authorization.k8s.io/clusterrolebindings": binding,
  "authorization.k8s.io/selfsubjectaccessreviews": review,
  "authorization.k8s.io/subjectaccessreviews": review,
  "apiextensions.k8s.io/customresourcedefinitions": {
    spec: z.looseObject({
      group: z.string().min(1),
      scope: text,
      names: z.looseObject({
        plural: z.string().min(1),
        kind: z.string().min(1),
        singular: text,
        shortNames: texts,
        categories: texts,
      }),
      versions: z.array(
        z.looseObject({
          name: z.string().min(1),
          subresources: object({}),
          additionalPrinterColumns: list({ name: z.string(), jsonPath: z.string(), type: z.string() }),
        }),
      ),
    }),
  },
};
const schemas = new Map<string, z.ZodType>();

/** Refuses an object whose parts have a form that Kubernetes' types do not. Throws a KubeError, 422, which names the field. */
export function checkShape(resource: KubeResource, value: object): void {
  const key = storeKey(resource);
  let schema = schemas.get(key);
  if (!schema) {
    schema = z.looseObject({ metadata, ...(Object.hasOwn(kinds, key) ? kinds[key] : {}) });
    // Only the kinds of this table: those of definitions come and go.
    if (Object.hasOwn(kinds, key)) schemas.set(key, schema);
  }
  const [issue] = schema.safeParse(value).error?.issues ?? [];
  if (!issue) return;
  const path = issue.path.map((part) => String(part)).join(".");
  throw invalid(`${resource.kind} is invalid: ${path}: ${issue.message}`);
}
