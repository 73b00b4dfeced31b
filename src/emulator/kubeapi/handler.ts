import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { TLSSocket } from "node:tls";
import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import { scalarText } from "#emulator/config/documents.ts";
import { readBody } from "./body.ts";
import { type KubeResource, resourcesOf, reviews, storeKey } from "./catalog.ts";
import { defaults } from "./defaults.ts";
import { discovery, openapi } from "./discovery.ts";
import { fieldsOf, type ManagedFields, skeletonOf } from "./managed-fields.ts";
import type { KubeObject, KubeObjects } from "./objects.ts";
import { applyPatch, jsonPatch, mergePatch, strategicMerge } from "./patch.ts";
import { podLog } from "./pods.ts";
import { parseTarget, type Target, urlOf, verbOf } from "./request.ts";
import { scaleOf, withScale } from "./scale.ts";
import { fieldSelector, labelSelector, type Selector } from "./selectors.ts";
import { checkShape } from "./shape.ts";
import { badRequest, invalid, KubeError, toKubeError } from "./status.ts";
import { toTable } from "./tables.ts";
import { authenticate, authorize, type User } from "./user.ts";
import { startWatch } from "./watch.ts";

/** A request of either HTTP version. */
export type Request = IncomingMessage | Http2ServerRequest;
/** An answer of either HTTP version. */
export type Response = ServerResponse | Http2ServerResponse;

/** What a request is about, once it is known who asks and may. */
interface Context {
  readonly boot: Boot;
  readonly objects: KubeObjects;
  readonly request: Request;
  readonly response: Response;
  readonly user: User;
  readonly target: Target;
  readonly query: URLSearchParams;
}

/** Answers one request. Never throws. */
export async function handleKube(
  boot: Boot,
  cluster: Cluster,
  socket: TLSSocket,
  request: Request,
  response: Response,
): Promise<void> {
  try {
    await answer(boot, cluster, socket, request, response);
  } catch (error) {
    const failure = toKubeError(error);
    if (failure.status === 500) boot.chassis.log.warn({ error }, "emulated Kubernetes API failed");
    if (response.headersSent) response.end();
    else send(response, failure.status, failure.body());
  }
}

async function answer(
  boot: Boot,
  cluster: Cluster,
  socket: TLSSocket,
  request: Request,
  response: Response,
): Promise<void> {
  const url = urlOf(request.url);
  const path = url.pathname.replace(/\/+$/, "") || "/";
  if (path === "/version") return send(response, 200, versionInfo(boot));
  if (["/healthz", "/livez", "/readyz"].includes(path)) return sendText(response, 200, "ok");
  const { objects } = cluster;
  const user = authenticate(boot, socket, request.headers, objects);
  if (!cluster.etcd.quorum) throw new KubeError(500, "InternalError", "etcdserver: request timed out");
  const resources = resourcesOf(objects);
  if (request.method === "GET") {
    const aggregated = String(request.headers.accept ?? "").includes("as=APIGroupDiscoveryList");
    const found = path.startsWith("/openapi/") ? openapi(path, resources) : discovery(path, resources, aggregated);
    if (found) {
      const v2 = "kind" in found && found.kind === "APIGroupDiscoveryList";
      return send(
        response,
        200,
        found,
        v2 ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" : undefined,
      );
    }
  }
  const target = parseTarget(path, resources);
  if (!target) throw new KubeError(404, "NotFound", "the server could not find the requested resource");
  const { searchParams: query } = url;
  const context: Context = { boot, objects, request, response, user, target, query };
  allow(
    context,
    verbOf(request.method ?? "GET", target.name !== "", query.get("watch") === "true" || query.get("watch") === "1"),
  );
  await serve(context);
}

function allow({ user, target, objects }: Context, verb: string): void {
  const { resource, namespace, name, subresource } = target;
  const full = subresource ? `${resource.plural}/${subresource}` : resource.plural;
  if (
    reviews.has(resource.plural) ||
    authorize(user, { verb, group: resource.group, resource: full, namespace, name }, objects)
  )
    return;
  const where = namespace ? `in the namespace "${namespace}"` : "at the cluster scope";
  throw new KubeError(
    403,
    "Forbidden",
    `${resource.plural}${name ? ` "${name}"` : ""} is forbidden: User "${user.name}" cannot ${verb} resource "${full}" in API group "${resource.group}" ${where}`,
  );
}

async function serve(context: Context): Promise<void> {
  const { target, request, query } = context;
  const { resource, name, subresource } = target;
  if (reviews.has(resource.plural)) return review(context);
  if (resource.plural === "pods" && subresource === "log")
    return podLog(context.boot, context.objects, target, query, context.response);
  if (subresource === "scale") return scale(context);
  switch (request.method) {
    case "GET":
    case "HEAD":
      if (query.get("watch") === "true" || query.get("watch") === "1") return watch(context);
      return name ? sendObject(context, 200, existing(context)) : list(context);
    case "POST":
      return create(context);
    case "PUT":
      return replace(context);
    case "PATCH":
      return patch(context);
    case "DELETE":
      return remove(context);
    default:
      throw new KubeError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
  }
}

function existing({ objects, target }: Context): KubeObject {
  const object = objects.get(storeKey(target.resource), target.namespace, target.name);
  if (!object) throw new KubeError(404, "NotFound", `${qualified(target.resource)} "${target.name}" not found`);
  return object;
}

function selectorOf({ query, target }: Context): Selector {
  const labels = labelSelector(query.get("labelSelector") ?? "");
  const fields = fieldSelector(query.get("fieldSelector") ?? "");
  return (object) => labels(object) && fields(object) && (target.name === "" || object.metadata.name === target.name);
}

function list(context: Context): void {
  const { objects, target } = context;
  const key = storeKey(target.resource);
  const items = objects.list(key, target.namespace).filter(selectorOf(context));
  const version = String(objects.version);
  const as = tableOf(context);
  const body = as
    ? toTable(target.resource, key, items, version, context.boot.chassis.clock.now(), as)
    : {
        kind: `${target.resource.kind}List`,
        apiVersion: versionOf(target.resource),
        metadata: { resourceVersion: version },
        items,
      };
  send(context.response, 200, body);
}

function watch(context: Context): void {
  const { objects, target, query, response, boot } = context;
  const key = storeKey(target.resource);
  const as = tableOf(context);
  const form = (object: KubeObject, version: string) => {
    const current = { ...object, metadata: { ...object.metadata, resourceVersion: version } };
    return as ? toTable(target.resource, key, [current], version, boot.chassis.clock.now(), as) : current;
  };
  const bookmark = (version: string, annotations?: Record<string, string>) => ({
    kind: target.resource.kind,
    apiVersion: versionOf(target.resource),
    metadata: { resourceVersion: version, creationTimestamp: null, ...(annotations ? { annotations } : {}) },
  });
  const from = query.get("resourceVersion");
  if (from !== null && from !== "" && !/^\d+$/.test(from))
    throw badRequest(`invalid resource version "${from.slice(0, 50)}"`);
  let stop = () => {};
  const start = () => {
    stop = startWatch(objects, {
      key,
      namespace: target.namespace,
      selects: selectorOf(context),
      from: from ? Number(from) : undefined,
      initial: query.get("sendInitialEvents") === "true",
      bookmarks: query.get("allowWatchBookmarks") === "true",
      form,
      bookmark,
      write: (event) => {
        // A reader that does not read is cut off: it lists again.
        if (response.writableLength > 4 << 20) response.end();
        else (response as ServerResponse).write(`${JSON.stringify(event)}\n`);
      },
    });
  };
  const head = () => {
    response.statusCode = 200;
    response.setHeader("content-type", "application/json");
    (response as ServerResponse).flushHeaders();
  };
  head();
  try {
    start();
  } catch (error) {
    (response as ServerResponse).write(`${JSON.stringify({ type: "ERROR", object: toKubeError(error).body() })}\n`);
    response.end();
    return;
  }
  const seconds = Number(query.get("timeoutSeconds")) || 3600;
  const timer = boot.chassis.clock.after(seconds * 1000, () => response.end());
  response.on("close", () => {
    stop();
    timer.cancel();
  });
}

async function create(context: Context): Promise<void> {
  const { objects, target, boot } = context;
  const body = await readBody(context.request);
  if (target.resource.plural === "serviceaccounts" && target.subresource === "token")
    throw new KubeError(501, "NotImplemented", "service account tokens are not emulated");
  if (target.subresource === "eviction" && target.resource.plural === "pods") {
    objects.delete("/pods", target.namespace, target.name);
    return send(context.response, 201, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" });
  }
  if (target.subresource === "binding")
    return send(context.response, 201, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" });
  const object = check(context, body);
  if (!object.metadata.name && object.metadata.generateName)
    object.metadata.name = `${object.metadata.generateName}${suffix()}`;
  if (!object.metadata.name)
    throw invalid(
      `${target.resource.kind} "" is invalid: metadata.name: Required value: name or generateName is required`,
    );
  if (
    object.metadata.namespace &&
    target.resource.plural !== "namespaces" &&
    !objects.get("/namespaces", "", object.metadata.namespace)
  )
    throw new KubeError(404, "NotFound", `namespaces "${object.metadata.namespace}" not found`);
  if (dryRun(context)) return sendObject(context, 201, object);
  const stored = objects.create(storeKey(target.resource), defaults(target.resource, object, boot));
  sendObject(context, 201, stored);
}

async function replace(context: Context): Promise<void> {
  const body = check(context, await readBody(context.request));
  const old = existing(context);
  const next =
    context.target.subresource === "status"
      ? { ...old, status: body.status }
      : { ...body, ...("status" in body || old.status === undefined ? {} : { status: old.status }) };
  sendObject(context, 200, dryRun(context) ? next : context.objects.update(storeKey(context.target.resource), next));
}

async function patch(context: Context): Promise<void> {
  const { objects, target, request, query, boot } = context;
  const type = String(request.headers["content-type"] ?? "").split(";")[0];
  const body = await readBody(request);
  const key = storeKey(target.resource);
  const old = objects.get(key, target.namespace, target.name);
  if (type === "application/apply-patch+yaml" || type === "application/apply-patch+cbor") {
    const applied = check(context, body);
    const manager = query.get("fieldManager") ?? "unknown";
    const managed = (old?.metadata.managedFields ?? []) as ManagedFields[];
    const own = managed.find((entry) => entry.manager === manager && entry.operation === "Apply");
    const previous = own && skeletonOf(own.fieldsV1);
    const { managedFields: _, ...metadata } = applied.metadata;
    const clean = { ...applied, metadata };
    const merged = check(context, applyPatch(old ?? {}, clean, previous));
    merged.metadata = {
      ...merged.metadata,
      managedFields: [
        ...managed.filter((entry) => entry !== own),
        {
          manager,
          operation: "Apply",
          apiVersion: clean.apiVersion,
          time: new Date(boot.chassis.clock.now()).toISOString().replace(/\.\d+/, ""),
          fieldsType: "FieldsV1",
          fieldsV1: fieldsOf(clean),
        } satisfies ManagedFields,
      ],
    };
    if (dryRun(context)) return sendObject(context, 200, merged);
    if (old) return sendObject(context, 200, objects.update(key, merged));
    return sendObject(context, 201, objects.create(key, defaults(target.resource, merged, boot)));
  }
  const merge = mergeOf(request);
  const next = check(context, merge(existing(context), body));
  sendObject(context, 200, dryRun(context) ? next : objects.update(key, next));
}

async function scale(context: Context): Promise<void> {
  const { objects, target, request } = context;
  const old = existing(context);
  if (request.method === "GET") return send(context.response, 200, scaleOf(old));
  if (request.method !== "PUT" && request.method !== "PATCH")
    throw new KubeError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
  const body = await readBody(request);
  const next = request.method === "PUT" ? body : mergeOf(request)(scaleOf(old), body);
  const scaled = withScale(old, next as KubeObject);
  send(context.response, 200, scaleOf(dryRun(context) ? scaled : objects.update(storeKey(target.resource), scaled)));
}

/** How the patch of a request is merged. Throws a KubeError for an unknown form. */
function mergeOf(request: Request): (target: unknown, patch: unknown) => unknown {
  switch (String(request.headers["content-type"] ?? "").split(";")[0]) {
    case "application/json-patch+json":
      return jsonPatch;
    case "application/strategic-merge-patch+json":
      return strategicMerge;
    case "application/merge-patch+json":
      return mergePatch;
    default:
      throw new KubeError(415, "UnsupportedMediaType", "the body of the request was in an unknown format");
  }
}

async function remove(context: Context): Promise<void> {
  const { objects, target } = context;
  const key = storeKey(target.resource);
  if (target.name) {
    existing(context);
    if (!dryRun(context)) objects.delete(key, target.namespace, target.name);
    return send(context.response, 200, {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Success",
      details: { name: target.name, kind: target.resource.plural },
    });
  }
  const gone = objects.list(key, target.namespace).filter(selectorOf(context));
  for (const object of gone)
    if (!dryRun(context)) objects.delete(key, object.metadata.namespace ?? "", object.metadata.name);
  send(context.response, 200, {
    kind: `${target.resource.kind}List`,
    apiVersion: versionOf(target.resource),
    metadata: { resourceVersion: String(objects.version) },
    items: gone,
  });
}

async function review(context: Context): Promise<void> {
  const { target, user, objects } = context;
  const body = check(context, await readBody(context.request));
  if (target.resource.plural === "selfsubjectreviews") {
    return send(context.response, 201, { ...body, status: { userInfo: { username: user.name, groups: user.groups } } });
  }
  const spec = body.spec as
    | {
        resourceAttributes?: {
          verb?: string;
          group?: string;
          resource?: string;
          subresource?: string;
          namespace?: string;
          name?: string;
        };
      }
    | undefined;
  const wanted = spec?.resourceAttributes ?? {};
  const allowed = authorize(
    user,
    {
      verb: wanted.verb ?? "get",
      group: wanted.group ?? "",
      resource: wanted.subresource ? `${wanted.resource}/${wanted.subresource}` : (wanted.resource ?? ""),
      namespace: wanted.namespace ?? "",
      name: wanted.name ?? "",
    },
    objects,
  );
  send(context.response, 201, { ...body, status: { allowed } });
}

/** Names and namespace of a body agree with the path. Throws a KubeError. */
function check({ target }: Context, body: unknown): KubeObject {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw badRequest("the object provided is unrecognized");
  const object = body as KubeObject;
  const { resource, name, namespace } = target;
  checkShape(resource, { metadata: {}, ...(withoutNulls(object) as object) });
  const metadata = object.metadata ?? { name: "" };
  if (object.kind !== undefined && object.kind !== resource.kind)
    throw badRequest(`${scalarText(object.kind)} in version does not match ${resource.kind}`);
  if (name && metadata.name && metadata.name !== name)
    throw badRequest(
      `the name of the object (${String(metadata.name).slice(0, 253)}) does not match the name on the URL (${name})`,
    );
  if (namespace && metadata.namespace && metadata.namespace !== namespace)
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  const finalName = name || metadata.name || "";
  if (
    typeof finalName !== "string" ||
    (finalName && !/^[a-z0-9A-Z]([a-zA-Z0-9.:_-]{0,251}[a-zA-Z0-9])?$/.test(finalName))
  )
    throw invalid(`${resource.kind} "${String(finalName).slice(0, 100)}" is invalid: metadata.name: Invalid value`);
  const place = resource.namespaced ? { namespace: namespace || metadata.namespace || "default" } : {};
  return {
    ...object,
    apiVersion: versionOf(resource),
    kind: resource.kind,
    metadata: { ...withoutNulls(metadata), name: finalName, ...place },
  };
}

/** In Kubernetes a field that is null is one that is not there. */
function withoutNulls<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null)) as T;
}

function dryRun({ query }: Context): boolean {
  return query.has("dryRun");
}

/** `includeObject` when the caller asks for a Table. */
function tableOf({ request, query }: Context): string | undefined {
  const accept = String(request.headers.accept ?? "");
  return accept.split(",")[0]?.includes("as=Table") ? (query.get("includeObject") ?? "Metadata") : undefined;
}

function sendObject(context: Context, status: number, object: KubeObject): void {
  const as = tableOf(context);
  const { resource } = context.target;
  const version = object.metadata.resourceVersion ?? "";
  const now = context.boot.chassis.clock.now();
  send(context.response, status, as ? toTable(resource, storeKey(resource), [object], version, now, as) : object);
}

function send(response: Response, status: number, body: object, type = "application/json"): void {
  response.statusCode = status;
  response.setHeader("content-type", type);
  response.end(JSON.stringify(body));
}

function sendText(response: Response, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader("content-type", "text/plain");
  response.end(text);
}

function versionOf(resource: KubeResource): string {
  return resource.group ? `${resource.group}/${resource.version}` : resource.version;
}

function qualified(resource: KubeResource): string {
  return resource.group ? `${resource.plural}.${resource.group}` : resource.plural;
}

function suffix(): string {
  return Math.random().toString(36).slice(2, 7).padEnd(5, "0");
}

function versionInfo(boot: Boot): object {
  const tag = /:v?(\d+\.\d+\.[^@]+)/.exec(boot.config?.images.apiServer ?? "")?.[1] ?? boot.chassis.release.kubernetes;
  const [major, minor] = tag.split(".");
  return {
    major,
    minor,
    gitVersion: `v${tag}`,
    gitCommit: "emulated",
    gitTreeState: "clean",
    buildDate: "2026-01-01T00:00:00Z",
    goVersion: "go1.26.3",
    compiler: "gc",
    platform: "linux/amd64",
  };
}
