import { once } from "node:events";
import { type ClientHttp2Stream, constants, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { IchorError } from "#lib/errors.ts";
import { largestMessage } from "#talos/session.ts";
import { endCall, openWithin, startCall, statusIn } from "./grpc-call.ts";
import { Budget, encodeFrame, readFrames } from "./grpc-frames.ts";
import { type GrpcStatus, statusOf } from "./grpc-status.ts";
import { errorReply, labelMessage, labelReply } from "./talos-frames.ts";

/** One of several nodes that a call goes to. */
export interface Target {
  /** As the caller named it: what the reply is labelled with. */
  readonly name: string;
  /** Opens the call; throws what becomes the error of this node. */
  open(): Promise<ClientHttp2Stream>;
}

/** Nodes of one call. */
export const mostNodes = 512;

/**
 * One call to several nodes (protocols.md 5.10): replies are put together, messages of streams interleaved, each with the name of its
 * node; a node that fails stands in the answer with its error, and the call itself succeeds. Throws before anything was answered, for a
 * request that cannot be read.
 */
export async function callMany(
  req: Http2ServerRequest,
  res: Http2ServerResponse,
  targets: readonly Target[],
  streaming: boolean,
  signal: AbortSignal,
): Promise<void> {
  const request = await readRequest(req);
  signal.throwIfAborted();
  if (streaming) {
    startCall(res);
    const budget = new Budget(2 * largestMessage);
    const write = writer(res);
    await Promise.all(
      targets.map(async ({ name, open }) => {
        const status = await call(open, request, signal, budget, (message) => write(labelMessage(message, name)));
        if (status.code !== 0 && !signal.aborted) await write(errorReply(name, status, true));
      }),
    );
  } else {
    // What is put together must itself be a message that the client takes.
    const budget = new Budget(largestMessage);
    const replies = await Promise.all(
      targets.map(async ({ name, open }) => {
        let reply: Uint8Array | undefined;
        const status = await call(open, request, signal, budget, (message) => {
          if (reply) throw new IchorError("internal", "the machine answered more than once");
          budget.take(message.length);
          reply = labelReply(message, name);
        });
        if (status.code !== 0) return errorReply(name, status, false);
        return reply ?? errorReply(name, { code: 13, message: "the machine answered nothing" }, false);
      }),
    );
    if (signal.aborted) return;
    startCall(res);
    res.write(encodeFrame(Buffer.concat(replies)));
  }
  if (!signal.aborted) endCall(res, { code: 0, message: "" });
}

/** The body as it is: one frame, compressed or not. */
async function readRequest(req: Http2ServerRequest): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const budget = new Budget(largestMessage + 5);
  for await (const chunk of req as AsyncIterable<Buffer>) {
    budget.take(chunk.length);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Calls one node and hands on its messages; answers how it ended, whatever happened. */
async function call(
  open: Target["open"],
  request: Buffer,
  signal: AbortSignal,
  budget: Budget,
  onMessage: (message: Buffer) => void | Promise<void>,
): Promise<GrpcStatus> {
  let upstream: ClientHttp2Stream | undefined;
  const stop = () => upstream?.close(constants.NGHTTP2_CANCEL);
  signal.addEventListener("abort", stop, { once: true });
  try {
    upstream = await openWithin(open(), signal);
    let status: GrpcStatus | undefined;
    upstream.once("response", (headers) => {
      status = statusIn(headers);
    });
    upstream.once("trailers", (trailers) => {
      status ??= statusIn(trailers);
    });
    upstream.end(request);
    for await (const { compressed, message } of readFrames(upstream as AsyncIterable<Buffer>, budget)) {
      if (compressed) throw new IchorError("internal", "the machine compressed its answer although nobody asked");
      await onMessage(message);
    }
    if (!status) throw new IchorError("unavailable", "the machine broke the connection");
    return status;
  } catch (error) {
    if (error instanceof IchorError) return statusOf(error);
    return { code: 14, message: "the machine broke the connection" };
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

/** Writes whole messages, each when the client has taken the one before. */
function writer(res: Http2ServerResponse): (message: Uint8Array) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve();
  return (message) => {
    last = last.then(async () => {
      if (res.writableEnded || res.stream?.destroyed) return;
      if (!res.write(encodeFrame(message))) {
        const gone = new AbortController();
        res.once("close", () => gone.abort());
        await once(res, "drain", { signal: gone.signal }).catch(() => {});
      }
    });
    return last as Promise<void>;
  };
}
