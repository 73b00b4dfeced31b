import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, RequestOptions, ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";
import type { Dial } from "#talos/dial.ts";
import { bearerOf, refusalOf, requestHeaders, responseHeaders } from "./kubernetes-status.ts";
import { KubernetesUpstreams } from "./kubernetes-upstream.ts";
import type { MachineIndex } from "./machine-index.ts";
import { splice } from "./splice.ts";

/** Who a bearer token speaks for. */
export interface KubernetesCaller {
  /** Becomes the Kubernetes user. */
  readonly identity: string;
  /** The one cluster that the token is for. */
  readonly cluster: string;
  /** Tells it from an earlier cluster of the name; checked when present. */
  readonly clusterUUID?: string;
  readonly groups: readonly string[];
}

/** What the proxy is made with. */
export interface KubernetesProxyOptions {
  readonly state: State;
  readonly dial: Dial;
  readonly clock: Clock;
  readonly log: Logger;
  readonly machines: MachineIndex;
  /** Throws `unauthenticated` for a token that is not ours, expired or revoked. */
  readonly verify: (token: string) => Promise<KubernetesCaller>;
  /** Told of each request that was let in. */
  readonly audit?: (entry: { method: string; uri: string; identity: string; cluster: string }) => void;
}

/** Passes kubectl on to the API servers of clusters. */
export interface KubernetesProxy {
  /** A plain request, of HTTP/1.1 or HTTP/2. */
  handle(req: IncomingMessage | Http2ServerRequest, res: ServerResponse | Http2ServerResponse): Promise<void>;
  /** A request to become a WebSocket or SPDY connection. */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
  /** Cuts everything. */
  close(): void;
}

/** Requests of one cluster under way, watches included. */
const mostRequests = 1000;

/**
 * The Kubernetes proxy (protocols.md 10.4): takes `/k8s/clusters/<name>/...`, or any path where the token alone names the cluster, and
 * speaks to the API server with the plane's credential, as the user of the token. Refuses in the words of Kubernetes.
 */
export function createKubernetesProxy(options: KubernetesProxyOptions): KubernetesProxy {
  const { state, log, verify, audit } = options;
  const upstreams = new KubernetesUpstreams(options);
  const underway = new Map<string, number>();

  const admit = async (req: IncomingMessage | Http2ServerRequest) => {
    const { cluster: wanted, path } = parsePath(req.url ?? "/");
    const token = bearerOf(req.headers);
    if (token === undefined) throw new IchorError("unauthenticated", "a bearer token is needed");
    const caller = await verify(token);
    const { cluster, identity, groups } = caller;
    if (wanted !== undefined && wanted !== cluster)
      throw new IchorError("permission_denied", `the token is for cluster "${cluster}"`);
    if (!identity || groups.length === 0)
      throw new IchorError("permission_denied", `"${identity}" has no access to cluster "${cluster}"`);
    if (caller.clusterUUID !== undefined) {
      const current = await state.get(ClusterUUIDKind, cluster);
      if (current?.spec.uuid !== caller.clusterUUID)
        throw new IchorError("permission_denied", `the token is for an earlier cluster of the name "${cluster}"`);
    }
    const method = req.method ?? "GET";
    audit?.({ method, uri: path, identity, cluster });
    return { cluster, request: { method, path, headers: requestHeaders(req.headers, caller) } };
  };

  /** Runs `use` as one of the bounded requests of the cluster. */
  const counted = async (cluster: string, use: () => Promise<void>) => {
    const count = underway.get(cluster) ?? 0;
    if (count >= mostRequests)
      throw new IchorError("resource_exhausted", `cluster "${cluster}" has ${count} requests under way`);
    underway.set(cluster, count + 1);
    try {
      await use();
    } finally {
      const left = (underway.get(cluster) ?? 1) - 1;
      if (left > 0) underway.set(cluster, left);
      else underway.delete(cluster);
    }
  };

  const explain = (error: unknown, req: IncomingMessage | Http2ServerRequest) => {
    const refusal = refusalOf(error);
    // The path may hold names, never secrets; the query is left out all the same.
    const facts = { method: req.method, path: req.url?.replace(/\?.*/s, ""), status: refusal.status };
    log.info({ ...facts, error: messageOf(error), cause: causeOf(error) }, "refused a Kubernetes request");
    return refusal;
  };

  return {
    async handle(req, res) {
      const gone = new AbortController();
      res.once("close", () => gone.abort());
      res.on("error", () => {});
      req.on("error", () => {});
      try {
        const { cluster, request } = await admit(req);
        if (framedByChunks(req)) request.headers["transfer-encoding"] = "chunked";
        await counted(cluster, async () => {
          const { outgoing, response } = await exchange(upstreams, cluster, request, req, gone.signal);
          await answer(response, outgoing, res, gone.signal);
        });
      } catch (error) {
        if (gone.signal.aborted) return;
        if (res.headersSent) {
          breakOff(res);
          return;
        }
        const { status, body } = explain(error, req);
        const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
        (res as ServerResponse).writeHead(status, headers);
        res.end(body);
        // What the caller still sends is of no use to anybody.
        req.resume();
      }
    },

    async upgrade(req, socket, head) {
      const gone = new AbortController();
      socket.once("close", () => gone.abort());
      socket.on("error", () => {});
      try {
        const { cluster, request } = await admit(req);
        request.headers.connection = "Upgrade";
        request.headers.upgrade = req.headers.upgrade;
        await counted(cluster, async () => {
          const outgoing = await upstreams.open(cluster, request, gone.signal);
          await switchProtocols(outgoing, socket, head);
        });
      } catch (error) {
        if (socket.destroyed) return;
        const { status, body } = explain(error, req);
        const headers = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close`;
        socket.end(`HTTP/1.1 ${status} Refused\r\n${headers}\r\n\r\n${body}`);
      }
    },

    close: () => upstreams.close(),
  };
}

/** Splits `/k8s/clusters/<name>/api/...`; a path without that prefix is the API server's as it is. */
export function parsePath(url: string): { cluster?: string; path: string } {
  const match = /^\/k8s\/clusters\/([^/?#]+)(\/[^?#]*)?(\?[^#]*)?$/.exec(url);
  if (/[^\x21-\x7e]/.test(url)) throw new IchorError("invalid_argument", "the path holds characters that it may not");
  if (!match) {
    if (!url.startsWith("/") || /^\/k8s\/clusters(\/|$)/.test(url))
      throw new IchorError("invalid_argument", "the path is not /k8s/clusters/NAME/...");
    return { path: url };
  }
  try {
    return { cluster: decodeURIComponent(match[1] ?? ""), path: `${match[2] ?? "/"}${match[3] ?? ""}` };
  } catch (cause) {
    throw new IchorError("invalid_argument", "the path cannot be decoded", { cause });
  }
}

/** Whether a body of unknown length comes: HTTP/1.1 upstream needs to be told, or it would end with the connection. */
function framedByChunks(req: IncomingMessage | Http2ServerRequest): boolean {
  if (req.headers["content-length"] !== undefined) return false;
  return "stream" in req ? !req.stream.endAfterHeaders : req.headers["transfer-encoding"] !== undefined;
}

function hasBody(req: IncomingMessage | Http2ServerRequest): boolean {
  return framedByChunks(req) || Number(req.headers["content-length"] ?? 0) > 0;
}

/** Tries of a request that changes nothing, when connections break under it. */
const mostTries = 3;

/** Sends the request with its body; one that changes nothing again, elsewhere if need be, when the connection breaks. */
async function exchange(
  upstreams: KubernetesUpstreams,
  cluster: string,
  request: RequestOptions,
  req: IncomingMessage | Http2ServerRequest,
  signal: AbortSignal,
): Promise<{ outgoing: ClientRequest; response: IncomingMessage }> {
  for (let tries = 1; ; tries++) {
    const outgoing = await upstreams.open(cluster, request, signal);
    const response = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once("response", resolve);
      outgoing.once("error", reject);
      outgoing.once("close", () => reject(new Error("closed without an answer")));
    });
    const safe = /^(GET|HEAD|OPTIONS)$/.test(request.method ?? "") && !hasBody(req);
    if (safe) outgoing.end();
    else req.pipe(outgoing);
    try {
      return { outgoing, response: await response };
    } catch (cause) {
      req.unpipe(outgoing);
      if (safe && tries < mostTries && !signal.aborted) continue;
      if (cause instanceof IchorError) throw cause;
      throw new IchorError("unavailable", `the API server of cluster "${cluster}" broke the connection`, { cause });
    }
  }
}

/** Streams the answer as it comes; one that breaks off breaks off for the caller too. */
function answer(
  response: IncomingMessage,
  outgoing: ClientRequest,
  res: ServerResponse | Http2ServerResponse,
  gone: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      outgoing.destroy();
      resolve();
    };
    outgoing.on("error", () => {});
    if (gone.aborted) return finish();
    gone.addEventListener("abort", finish, { once: true });
    response.on("error", () => breakOff(res));
    response.once("close", () => {
      if (!response.complete) breakOff(res);
    });
    response.once("end", () => {
      const trailers = responseHeaders(response.trailers as IncomingHttpHeaders);
      if (Object.keys(trailers).length > 0) (res as ServerResponse).addTrailers(trailers as Record<string, string>);
    });
    res.sendDate = false;
    // The two kinds of answer differ in type only.
    const writable = res as ServerResponse;
    writable.writeHead(response.statusCode ?? 502, responseHeaders(response.headers));
    writable.flushHeaders();
    response.pipe(writable);
  });
}

/** Ends an answer so that nobody takes it for whole. */
function breakOff(res: ServerResponse | Http2ServerResponse): void {
  if ("stream" in res) res.stream?.close(constants.NGHTTP2_INTERNAL_ERROR);
  else res.destroy();
}

/** Waits for 101 and joins the two connections; any other answer is passed on and ends it. */
function switchProtocols(outgoing: ClientRequest, socket: Duplex, head: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    outgoing.once("error", (cause) =>
      reject(new IchorError("unavailable", "the API server broke the connection", { cause })),
    );
    outgoing.once("upgrade", (response, upstream, first) => {
      socket.write(headOf(response, true));
      if (first.length > 0) socket.write(first);
      if (head.length > 0) upstream.write(head);
      splice(socket, upstream).then(resolve);
    });
    outgoing.once("response", (response) => {
      socket.write(headOf(response, false));
      response.on("error", () => socket.destroy());
      response.pipe(socket);
      socket.once("close", () => {
        outgoing.destroy();
        resolve();
      });
    });
    outgoing.end();
  });
}

/** The answer's head on the wire. What does not switch ends with the connection, so that its length needs no framing. */
function headOf(response: IncomingMessage, switching: boolean): string {
  const lines = [`HTTP/1.1 ${response.statusCode} ${response.statusMessage ?? ""}`];
  for (const [name, value] of Object.entries(responseHeaders(response.headers))) {
    for (const one of Array.isArray(value) ? value : [value]) lines.push(`${name}: ${one}`);
  }
  if (switching) lines.push("connection: Upgrade", `upgrade: ${response.headers.upgrade ?? ""}`);
  else lines.push("connection: close");
  return `${lines.join("\r\n")}\r\n\r\n`;
}

function causeOf(error: unknown): string | undefined {
  return error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : undefined;
}
