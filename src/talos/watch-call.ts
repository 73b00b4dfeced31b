import type { ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeFromHttpStatus, findTrailerError } from "@connectrpc/connect/protocol-grpc";
import {
  State,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "#gen/cosi/resource/resource_pb.ts";
import { messageOf } from "#lib/errors.ts";
import { largestMessage, type MachineSession } from "./session.ts";

const path = `/${State.typeName}/${State.method.watch.name}`;
const headers = { "content-type": "application/grpc+proto", te: "trailers", "user-agent": "ichor" };

/**
 * `cosi.resource.State/Watch` on a machine. A plane holds two dozen of these open to every machine, and what a general client keeps for each
 * (layers of generators and buffers, some 30 KiB) would be most of what a machine costs it: this is one HTTP/2 stream and nothing else.
 * `take` gets each response as it comes; what it throws ends the call. Resolves when the machine ends the watch without an error;
 * throws a ConnectError with the machine's code, and the signal's reason when it aborts.
 */
export async function callWatch(
  session: Pick<MachineSession, "request">,
  request: WatchRequest,
  take: (response: WatchResponse) => void,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const stream = await session.request("POST", path, headers, {});
  const stop = () => stream.close(8);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    stream.end(frame(toBinary(WatchRequestSchema, request)));
    await read(stream, take);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    stream.destroy();
  }
  signal.throwIfAborted();
}

function read(stream: ClientHttp2Stream, take: (response: WatchResponse) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const messages = new Messages();
    let status: ConnectError | undefined;
    let told = false;
    const tell = (from: IncomingHttpHeaders) => {
      told ||= from["grpc-status"] !== undefined;
      status ??= findTrailerError(toHeaders(from));
    };
    stream.on("response", (from) => {
      const http = Number(from[":status"]);
      if (http !== 200) status = new ConnectError(`HTTP ${http}`, codeFromHttpStatus(http));
      tell(from);
    });
    stream.on("trailers", tell);
    stream.on("data", (chunk: Buffer) => {
      try {
        for (const message of messages.add(chunk)) take(fromBinary(WatchResponseSchema, message));
      } catch (error) {
        reject(error);
      }
    });
    stream.on("error", (cause) =>
      reject(new ConnectError(messageOf(cause), Code.Unavailable, undefined, undefined, cause)),
    );
    stream.on("close", () => {
      if (status) reject(status);
      else if (told) resolve();
      else reject(new ConnectError("the connection ended", Code.Unavailable));
    });
  });
}

/** Cuts a stream of bytes into the messages of gRPC: a byte of flags, four of length, the message. */
class Messages {
  #held: Buffer = Buffer.alloc(0);

  /** Messages that are whole now. Throws for compressed ones (none were asked for) and those that are too large. */
  *add(chunk: Buffer): Generator<Buffer> {
    let bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    while (bytes.length >= 5) {
      const length = bytes.readUInt32BE(1);
      if (bytes[0] !== 0) throw new ConnectError("the machine sent a compressed message", Code.Internal);
      if (length > largestMessage)
        throw new ConnectError(`the machine sent a message of ${length} bytes`, Code.ResourceExhausted);
      if (bytes.length < 5 + length) break;
      yield bytes.subarray(5, 5 + length);
      bytes = bytes.subarray(5 + length);
    }
    // A copy: a remainder must not keep the whole chunk.
    this.#held = Buffer.from(bytes);
  }
}

function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function toHeaders(from: IncomingHttpHeaders): Headers {
  const found = new Headers();
  for (const name of ["grpc-status", "grpc-message", "grpc-status-details-bin"]) {
    const value = from[name];
    if (typeof value === "string") found.set(name, value);
  }
  return found;
}
