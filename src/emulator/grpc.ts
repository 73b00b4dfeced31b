import type { ClientHttp2Stream, ClientSessionRequestOptions, OutgoingHttpHeaders } from "node:http2";
import type { Duplex } from "node:stream";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { readsWhole } from "#lib/whole-answer.ts";

/** Sends `host:port` with IPv6 in brackets as `:authority`, as Go's clients do; Node's client leaves the brackets out. */
class Session extends Http2SessionManager {
  readonly #host: string;

  constructor(host: string, ...rest: ConstructorParameters<typeof Http2SessionManager>) {
    super(...rest);
    this.#host = host;
  }
  override async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: Omit<ClientSessionRequestOptions, "signal">,
  ): Promise<ClientHttp2Stream> {
    return readsWhole(await super.request(method, path, { ...headers, ":authority": this.#host }, options));
  }
}

/** How to reach a gRPC server. */
export interface GrpcTarget {
  /** `host:port`, IPv6 in brackets. */
  readonly authority: string;
  readonly tls: boolean;
  /** A connection that was made already, TLS included. */
  readonly socket?: Duplex;
  /** Certificate authorities in the place of the system's, PEM. */
  readonly ca?: readonly string[];
  /** Milliseconds until an idle connection is closed. Default 15 minutes. */
  readonly idle?: number;
}

/** A gRPC transport. */
export function grpcTo({ authority, tls, socket, ca, idle }: GrpcTarget): Transport {
  const baseUrl = `${tls ? "https" : "http"}://${authority}`;
  const sessionManager = new Session(authority, baseUrl, idle === undefined ? {} : { idleConnectionTimeoutMs: idle }, {
    ...(socket ? { createConnection: () => socket } : {}),
    ...(ca ? { ca: [...ca] } : {}),
  });
  return createGrpcTransport({ baseUrl, sessionManager });
}
