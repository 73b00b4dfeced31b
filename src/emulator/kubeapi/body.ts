import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { parse } from "yaml";
import { decodeProtobuf } from "./protobuf.ts";
import { badRequest, KubeError } from "./status.ts";

const bodyLimit = 3 << 20;

/** The body of a request as a value: JSON, YAML or Kubernetes' binary form. Throws a KubeError. */
export async function readBody(request: IncomingMessage | Http2ServerRequest): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > bodyLimit) throw new KubeError(413, "RequestEntityTooLarge", "request body is larger than 3 MiB");
    chunks.push(chunk);
  }
  const content = Buffer.concat(chunks);
  const type = String(request.headers["content-type"] ?? "");
  if (type.includes("protobuf")) return decodeProtobuf(content);
  if (type.includes("cbor")) throw new KubeError(415, "UnsupportedMediaType", "CBOR is not emulated");
  const text = content.toString("utf8");
  try {
    return text === "" ? {} : type.includes("yaml") ? parse(text, { maxAliasCount: 100 }) : JSON.parse(text);
  } catch {
    throw badRequest("couldn't decode the request body");
  }
}
