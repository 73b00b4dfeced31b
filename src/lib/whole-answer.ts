import type { ClientHttp2Stream } from "node:http2";

/**
 * Lets an answer be iterated that arrived whole before anybody read it. Node 26.10 judges a stream when its iteration begins, takes an HTTP/2
 * stream that both sides have closed for one that was cut off, and fails with "Premature close" although all bytes are there; whether it does
 * depends on how packets fall. Answers the same stream. Iterating throws what the stream fails with, and for one that closed without its end.
 */
export function readsWhole(stream: ClientHttp2Stream): ClientHttp2Stream {
  return Object.defineProperty(stream, Symbol.asyncIterator, { value: () => chunks(stream) });
}

async function* chunks(stream: ClientHttp2Stream): AsyncGenerator<Buffer> {
  let failure: Error | undefined;
  let over = stream.readableEnded || stream.destroyed;
  let wake = () => {};
  const readable = () => wake();
  const error = (cause: Error) => {
    failure = cause;
  };
  const end = () => {
    over = true;
    wake();
  };
  const close = () => {
    if (!stream.readableEnded) failure ??= new Error("the connection ended before the answer did");
    end();
  };
  stream.on("readable", readable).on("error", error).on("end", end).on("close", close);
  try {
    for (;;) {
      const chunk: Buffer | null = stream.destroyed ? null : stream.read();
      if (chunk !== null) yield chunk;
      else if (failure) throw failure;
      else if (over) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stream.off("readable", readable).off("end", end).off("close", close);
    // Its error listener stays: an error that comes after the reader has gone concerns nobody.
    if (!over) stream.destroy();
  }
}
