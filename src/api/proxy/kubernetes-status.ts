import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import { type Code, IchorError } from "#lib/errors.ts";

/** A refusal of the proxy itself. */
export interface Refusal {
  readonly status: number;
  /** `metav1.Status`: what every Kubernetes client shows. */
  readonly body: string;
}

const reasons: Record<number, string> = {
  400: "BadRequest",
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  429: "TooManyRequests",
  500: "InternalError",
  502: "BadGateway",
  503: "ServiceUnavailable",
};

const statuses: Partial<Record<Code, number>> = {
  unauthenticated: 401,
  permission_denied: 403,
  not_found: 404,
  invalid_argument: 400,
  resource_exhausted: 429,
  unavailable: 502,
  failed_precondition: 503,
};

/** Any failure as a Kubernetes `Status`; words only of what is ours. */
export function refusalOf(error: unknown): Refusal {
  const ours = error instanceof IchorError;
  const code = (ours ? statuses[error.code] : undefined) ?? 500;
  const message = ours ? error.message : "the plane failed to pass the request on";
  const body = {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message,
    reason: reasons[code],
    code,
  };
  return { status: code, body: `${JSON.stringify(body)}\n` };
}

/** Meant for one hop only (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2). */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** Credentials and identities of the caller: never reach the cluster. */
function speaksOfCaller(name: string): boolean {
  return /^(authorization|cookie|impersonate-.*|x-remote-.*|x-sidero-.*)$/.test(name);
}

/** Subprotocol in which a browser hands a bearer token to a WebSocket. */
const tokenProtocol = "base64url.bearer.authorization.k8s.io.";

/** The caller's bearer token, from the header or, for WebSockets of browsers, the subprotocol; undefined without. */
export function bearerOf(headers: IncomingHttpHeaders): string | undefined {
  const match = /^bearer +(\S+)$/i.exec(headers.authorization ?? "");
  if (match) return match[1];
  const protocol = subprotocols(headers).find((name) => name.startsWith(tokenProtocol));
  return protocol && Buffer.from(protocol.slice(tokenProtocol.length), "base64url").toString();
}

function subprotocols(headers: IncomingHttpHeaders): string[] {
  return (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
}

/** Headers for the API server: the caller's without those of its connection and identity, with the identity to take on. */
export function requestHeaders(
  headers: IncomingHttpHeaders,
  caller: { readonly identity: string; readonly groups: readonly string[] },
): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = {};
  const named = connectionNames(headers);
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":") || name === "host" || name === "expect" || value === undefined) continue;
    if (hopByHop.has(name) || named.has(name) || speaksOfCaller(name)) continue;
    result[name] = value;
  }
  if (result["sec-websocket-protocol"] !== undefined) {
    const kept = subprotocols(headers).filter((name) => !name.startsWith(tokenProtocol));
    if (kept.length > 0) result["sec-websocket-protocol"] = kept.join(", ");
    else delete result["sec-websocket-protocol"];
  }
  result["Impersonate-User"] = headerText(caller.identity);
  result["Impersonate-Group"] = caller.groups.map(headerText);
  return result;
}

/** UTF-8 on the wire, as Go reads it. */
function headerText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
  if (/[\x00-\x1f\x7f]/.test(text))
    throw new IchorError("invalid_argument", "the identity or a group holds characters that it may not");
  return Buffer.from(text).toString("latin1");
}

/** Headers for the caller. A service inside the cluster must not set cookies of the plane. */
export function responseHeaders(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = {};
  const named = connectionNames(headers);
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || hopByHop.has(name) || named.has(name) || name === "set-cookie") continue;
    result[name] = value;
  }
  return result;
}

function connectionNames(headers: IncomingHttpHeaders): Set<string> {
  return new Set((headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
}
