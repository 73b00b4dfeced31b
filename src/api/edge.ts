import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Console } from "./console.ts";
import { readTalosCredential } from "./talos-credential.ts";

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

/** The parts behind the plane's one port. */
export interface EdgeOptions {
  readonly log: Logger;
  readonly console: Console;
  /** gRPC, gRPC-web and Connect. */
  readonly rpc: (request: Request, response: Response) => void;
  readonly rpcPaths: ReadonlySet<string>;
  readonly kubernetes: {
    handle(request: Request, response: Response): Promise<void>;
    upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
  };
  readonly talos: (
    request: Http2ServerRequest,
    response: Http2ServerResponse,
    caller: { readonly identity: string; readonly roles: readonly string[] },
  ) => void | Promise<void>;
  /** Prometheus text; throws when the request may not have it. */
  readonly metrics: (authorization: string | undefined) => Promise<string>;
}

const kubernetesPath = "/k8s/clusters/";

/** Sends each request to its part, by path and by what the caller shows (docs/decisions/004). */
export class Edge {
  readonly #options: EdgeOptions;

  constructor(options: EdgeOptions) {
    this.#options = options;
  }

  readonly handle = (request: Request, response: Response): void => {
    request.on("error", () => {});
    response.on("error", () => {});
    this.#dispatch(request, response).catch((error: unknown) => {
      this.#options.log.warn({ error: messageOf(error) }, "request failed");
      if (!response.headersSent) send(response, 500, {}, Buffer.from("internal error\n"));
      else response.destroy();
    });
  };

  /** WebSocket and SPDY: kubectl's exec, attach and port-forward. */
  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => socket.destroy());
    if (!request.url?.startsWith(kubernetesPath)) {
      socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
      return;
    }
    this.#options.kubernetes.upgrade(request, socket, head).catch((error: unknown) => {
      this.#options.log.warn({ error: messageOf(error) }, "upgrade failed");
      socket.destroy();
    });
  };

  async #dispatch(request: Request, response: Response): Promise<void> {
    const { rpc, rpcPaths, kubernetes, talos, metrics, console } = this.#options;
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    if (path.startsWith(kubernetesPath)) return kubernetes.handle(request, response);
    const isGrpc = /^application\/grpc(\+proto|;|$)/.test(String(request.headers["content-type"] ?? ""));
    const talosCaller = isGrpc && request.httpVersionMajor === 2 ? byCertificate(request) : undefined;
    if (talosCaller) return talos(request as Http2ServerRequest, response as Http2ServerResponse, talosCaller);
    if (rpcPaths.has(path)) return rpc(request, response);
    if (path === "/healthz" || path === "/readyz") return send(response, 200, text, Buffer.from("ok\n"));
    if (path === "/metrics") {
      try {
        return send(response, 200, text, Buffer.from(await metrics(request.headers.authorization)));
      } catch {
        return send(response, 401, { "www-authenticate": "Bearer" }, Buffer.from("metrics need a token\n"));
      }
    }
    // A gRPC client that asks for what is not there must not get a page.
    if (isGrpc) return send(response, 200, { "content-type": "application/grpc", "grpc-status": "12" });
    const answer = console.answer(request.method ?? "GET", path, request.headers["if-none-match"]);
    return send(response, answer.status, answer.headers, answer.body);
  }
}

const text = { "content-type": "text/plain; charset=utf-8" };

function send(response: Response, status: number, headers: Readonly<Record<string, string>>, body?: Buffer): void {
  const target = response as ServerResponse;
  target.writeHead(status, { ...headers, ...(body ? { "content-length": String(body.length) } : {}) });
  target.end(body);
}

/** Who calls by a client certificate that chains to the plane's CA. */
function byCertificate(request: Request): ReturnType<typeof readTalosCredential> {
  const socket = ("stream" in request ? request.stream?.session?.socket : request.socket) as TLSSocket | undefined;
  if (!socket?.authorized) return undefined;
  return readTalosCredential(socket.getPeerCertificate().subject);
}
