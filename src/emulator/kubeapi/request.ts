import type { KubeResource } from "./catalog.ts";
import { badRequest } from "./status.ts";

/** A path of the API taken apart. */
export interface Target {
  readonly resource: KubeResource;
  readonly namespace: string;
  readonly name: string;
  readonly subresource: string;
}

/** The URL of a request. Throws a KubeError for a path that is none. */
export function urlOf(path = "/"): URL {
  // Put behind a host, since a path that begins with two slashes would be taken for a host itself.
  const text = `https://localhost${path}`;
  if (!URL.canParse(text)) throw badRequest("the path of the request is not one");
  return new URL(text);
}

/** What a path means; undefined when there is no such resource. */
export function parseTarget(path: string, resources: readonly KubeResource[]): Target | undefined {
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map(decode);
  const [root] = parts;
  if (root !== "api" && root !== "apis") return undefined;
  const group = root === "api" ? "" : (parts[1] ?? "");
  const version = parts[root === "api" ? 1 : 2] ?? "";
  let rest = parts.slice(root === "api" ? 2 : 3);
  const find = (plural: string | undefined) =>
    resources.find(
      (resource) => resource.group === group && resource.version === version && resource.plural === plural,
    );
  if (rest[0] === "watch") rest = rest.slice(1);
  if (rest[0] === "namespaces" && rest.length > 2) {
    const resource = find(rest[2]);
    if (resource?.namespaced)
      return { resource, namespace: rest[1] ?? "", name: rest[3] ?? "", subresource: rest.slice(4).join("/") };
  }
  const resource = find(rest[0]);
  return resource && { resource, namespace: "", name: rest[1] ?? "", subresource: rest.slice(2).join("/") };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** RBAC's verb of a request. */
export function verbOf(method: string, named: boolean, watching: boolean): string {
  switch (method) {
    case "POST":
      return "create";
    case "PUT":
      return "update";
    case "PATCH":
      return "patch";
    case "DELETE":
      return named ? "delete" : "deletecollection";
    default:
      return watching ? "watch" : named ? "get" : "list";
  }
}
