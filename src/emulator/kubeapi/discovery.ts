import { type KubeResource, reviews } from "./catalog.ts";

/** Subresources that are objects of another kind. */
const foreign: Record<string, { group: string; version: string; kind: string }> = {
  scale: { group: "autoscaling", version: "v1", kind: "Scale" },
  eviction: { group: "policy", version: "v1", kind: "Eviction" },
};
const verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/** `/api`, `/apis`, `/api/v1`, `/apis/GROUP[/VERSION]`; with `aggregated` the one-document form that kubectl asks for. */
export function discovery(path: string, resources: readonly KubeResource[], aggregated: boolean): object | undefined {
  const parts = path.split("/").filter((part) => part !== "");
  const [root, group, version] = parts;
  if (root === "api" && parts.length === 1) {
    if (aggregated) return aggregate(resources.filter((resource) => resource.group === ""));
    return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
  }
  if (root === "api" && parts.length === 2 && group === "v1")
    return resourceList(
      resources.filter((resource) => resource.group === ""),
      "v1",
    );
  if (root !== "apis") return undefined;
  const named = resources.filter((resource) => resource.group !== "");
  if (parts.length === 1)
    return aggregated
      ? aggregate(named)
      : { kind: "APIGroupList", apiVersion: "v1", groups: groupNames(named).map((name) => groupOf(name, named)) };
  const own = named.filter((resource) => resource.group === group);
  if (own.length === 0) return undefined;
  if (parts.length === 2) return { kind: "APIGroup", apiVersion: "v1", ...groupOf(group ?? "", named) };
  const ofVersion = own.filter((resource) => resource.version === version);
  return parts.length === 3 && ofVersion.length > 0 ? resourceList(ofVersion, `${group}/${version}`) : undefined;
}

/** Index of OpenAPI v3 documents, or one of them: enough for kubectl to see that the server validates fields and merges strategically. */
export function openapi(path: string, resources: readonly KubeResource[]): object | undefined {
  const prefixes = new Map<string, KubeResource[]>();
  for (const resource of resources) {
    const key = resource.group === "" ? "api/v1" : `apis/${resource.group}/${resource.version}`;
    prefixes.set(key, [...(prefixes.get(key) ?? []), resource]);
  }
  if (path === "/openapi/v3") {
    return {
      paths: Object.fromEntries(
        [...prefixes.keys()].map((key) => [key, { serverRelativeURL: `/openapi/v3/${key}?hash=1` }]),
      ),
    };
  }
  const own = prefixes.get(path.replace("/openapi/v3/", ""));
  if (!own) return undefined;
  const parameters = ["fieldValidation", "dryRun", "fieldManager", "force"].map((name) => ({
    name,
    in: "query",
    schema: { type: "string", uniqueItems: true },
  }));
  const paths: Record<string, object> = {};
  const schemas: Record<string, object> = {};
  for (const resource of own) {
    const gvk = { group: resource.group, version: resource.version, kind: resource.kind };
    const base = `/${path.replace("/openapi/v3/", "")}/${resource.namespaced ? "namespaces/{namespace}/" : ""}${resource.plural}`;
    const operation = (action: string) => ({
      parameters,
      responses: { 200: { description: "OK" } },
      "x-kubernetes-action": action,
      "x-kubernetes-group-version-kind": gvk,
    });
    paths[base] = { get: operation("list"), post: operation("post") };
    paths[`${base}/{name}`] = {
      get: operation("get"),
      put: operation("put"),
      patch: operation("patch"),
      delete: operation("delete"),
    };
    schemas[`emulated.${resource.group || "core"}.${resource.version}.${resource.kind}`] = {
      type: "object",
      "x-kubernetes-preserve-unknown-fields": true,
      "x-kubernetes-group-version-kind": [gvk],
    };
  }
  return { openapi: "3.0.0", info: { title: "Kubernetes", version: "emulated" }, paths, components: { schemas } };
}

function groupNames(resources: readonly KubeResource[]): string[] {
  return [...new Set(resources.map((resource) => resource.group))];
}

function groupOf(name: string, resources: readonly KubeResource[]) {
  const versions = [
    ...new Set(resources.filter((resource) => resource.group === name).map((resource) => resource.version)),
  ].map((version) => ({
    groupVersion: `${name}/${version}`,
    version,
  }));
  return { name, versions, preferredVersion: versions[0] };
}

function resourceList(resources: readonly KubeResource[], groupVersion: string) {
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion,
    resources: resources.flatMap((resource) => [
      {
        name: resource.plural,
        singularName: resource.singular,
        namespaced: resource.namespaced,
        kind: resource.kind,
        verbs: reviews.has(resource.plural) ? ["create"] : verbs,
        ...(resource.short.length > 0 ? { shortNames: resource.short } : {}),
        ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
      },
      ...resource.subresources.map((sub) => ({
        name: `${resource.plural}/${sub}`,
        singularName: "",
        namespaced: resource.namespaced,
        ...(foreign[sub] ?? { kind: resource.kind }),
        verbs: sub === "eviction" ? ["create"] : ["get", "patch", "update"],
      })),
    ]),
  };
}

function aggregate(resources: readonly KubeResource[]) {
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: "apidiscovery.k8s.io/v2",
    metadata: {},
    items: groupNames(resources).map((name) => ({
      metadata: name === "" ? { creationTimestamp: null } : { name, creationTimestamp: null },
      versions: [
        ...new Set(resources.filter((resource) => resource.group === name).map((resource) => resource.version)),
      ].map((version) => ({
        version,
        freshness: "Current",
        resources: resources
          .filter((resource) => resource.group === name && resource.version === version)
          .map((resource) => {
            const kind = { group: name, version, kind: resource.kind };
            return {
              resource: resource.plural,
              responseKind: kind,
              scope: resource.namespaced ? "Namespaced" : "Cluster",
              singularResource: resource.singular,
              verbs: reviews.has(resource.plural) ? ["create"] : verbs,
              ...(resource.short.length > 0 ? { shortNames: resource.short } : {}),
              ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
              subresources: resource.subresources.map((subresource) => ({
                subresource,
                responseKind: foreign[subresource] ?? kind,
                verbs: subresource === "eviction" ? ["create"] : ["get", "patch", "update"],
              })),
            };
          }),
      })),
    })),
  };
}
