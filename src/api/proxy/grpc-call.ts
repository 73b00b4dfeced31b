import type { ClientHttp2Stream, Http2ServerRequest, Http2ServerResponse, IncomingHttpHeaders } from "node:http2";
import { constants, type OutgoingHttpHeaders } from "node:http2";
import { abortable } from "#lib/abort.ts";
import { IchorError } from "#lib/errors.ts";
import { decodeMessage, encodeMessage, type GrpcStatus } from "./grpc-status.ts";

/** Ends a call of a client with a status: as trailers after what was sent, or as the only headers. */
export function endCall(res: Http2ServerResponse, { code, message }: GrpcStatus): void {
  if (res.writableEnded || res.stream?.destroyed) return;
  const fields = { "grpc-status": String(code), ...(message ? { "grpc-message": encodeMessage(message) } : {}) };
  if (res.headersSent) res.addTrailers(fields);
  else {
    res.sendDate = false;
    res.setHeader("content-type", "application/grpc");
    for (const [name, value] of Object.entries(fields)) res.setHeader(name, value);
  }
  res.end();
}

/** Starts an answer that the plane itself puts together. */
export function startCall(res: Http2ServerResponse): void {
  res.sendDate = false;
  res.writeHead(200, { "content-type": "application/grpc" });
}

/** Headers for apid: those of gRPC alone. Who calls, and for whom, is between the caller and the plane. */
export function upstreamHeaders(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = { te: "trailers" };
  for (const [name, value] of Object.entries(headers)) {
    if (name === "content-type" || name === "user-agent" || name.startsWith("grpc-")) result[name] = value;
  }
  return result;
}

/** `grpc-timeout` in milliseconds; undefined without, or when it cannot be read. */
export function timeoutOf(headers: IncomingHttpHeaders): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(String(headers["grpc-timeout"] ?? ""));
  if (!match) return undefined;
  const unit = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }[match[2] as "H"];
  return Number(match[1]) * unit;
}

/** The status that a machine's answer ends with: in its trailers, or its headers when it has nothing else. */
export function statusIn(headers: IncomingHttpHeaders): GrpcStatus | undefined {
  const code = headers["grpc-status"];
  if (code === undefined) return undefined;
  const number = /^\d{1,3}$/.test(String(code)) ? Number(code) : 2;
  return { code: number, message: decodeMessage(String(headers["grpc-message"] ?? "")) };
}

const broke = (cause?: unknown) => new IchorError("unavailable", "the machine broke the connection", { cause });

/**
 * Joins the call of a client to one to a machine: bytes, half-close and trailers as they are. Resolves when it is over for the client.
 * Throws `unavailable` when the machine breaks off; the caller ends the call then.
 */
export async function relay(
  req: Http2ServerRequest,
  res: Http2ServerResponse,
  upstream: ClientHttp2Stream,
): Promise<void> {
  req.pipe(upstream);
  try {
    await new Promise<void>((resolve, reject) => {
      // What a machine sends must not be able to throw out of an event.
      const guarded = (work: (headers: IncomingHttpHeaders) => void) => (headers: IncomingHttpHeaders) => {
        try {
          work(headers);
        } catch (error) {
          reject(broke(error));
        }
      };
      let whole = false;
      upstream.once(
        "response",
        guarded((headers) => answer(res, upstream, headers)),
      );
      upstream.once(
        "trailers",
        guarded((trailers) => {
          res.addTrailers(trailers as OutgoingHttpHeaders);
          whole = true;
        }),
      );
      upstream.once("end", () => {
        if (whole) res.end();
      });
      upstream.once("error", (error) => reject(broke(error)));
      upstream.once("close", () => {
        if (!res.writableEnded) reject(broke());
      });
      res.once("finish", resolve);
      res.once("close", resolve);
      if (res.stream?.destroyed) resolve();
      else if (upstream.closed || upstream.destroyed) reject(broke());
    });
  } finally {
    req.unpipe(upstream);
    upstream.close(constants.NGHTTP2_CANCEL);
  }
}

function answer(res: Http2ServerResponse, upstream: ClientHttp2Stream, headers: IncomingHttpHeaders): void {
  const { ":status": status = 200, ...rest } = headers;
  res.sendDate = false;
  if (headers["grpc-status"] === undefined) {
    res.writeHead(Number(status), rest as OutgoingHttpHeaders);
    upstream.pipe(res, { end: false });
    return;
  }
  // No more than headers: must stay so, for clients take the status of such an answer from nowhere else.
  res.statusCode = Number(status);
  for (const [name, value] of Object.entries(rest)) if (value !== undefined) res.setHeader(name, value);
  upstream.resume();
  res.end();
}

/** The stream once it is open; one that opens after the signal aborted is let go at once. */
export async function openWithin(opening: Promise<ClientHttp2Stream>, signal: AbortSignal): Promise<ClientHttp2Stream> {
  try {
    return await abortable(opening, signal);
  } catch (error) {
    opening.then(
      (stream) => stream.close(constants.NGHTTP2_CANCEL),
      () => {},
    );
    throw error;
  }
}
