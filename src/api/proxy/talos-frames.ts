import { create, toBinary } from "@bufbuild/protobuf";
import { EmptyResponseSchema, EmptySchema } from "#gen/common/common_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { codeName, type GrpcStatus } from "./grpc-status.ts";

/** Edits replies on the level of bytes, as apid does for several nodes (protocols.md 5.10): no message type needs to be known. */

/**
 * A unary reply `{1: [entry...]}` with the host name put into the metadata of each entry: protobuf merges the `{1: {1: hostname}}` that is
 * appended. A reply without entries gets one, so that the node is not lost. Throws `data_loss` for what is no protobuf.
 */
export function labelReply(reply: Uint8Array, hostname: string): Uint8Array {
  const label = encodeLabel(hostname);
  const parts: Uint8Array[] = [];
  let entries = 0;
  let copied = 0;
  for (const { start, number, type, value, end } of fields(reply)) {
    if (number !== 1 || type !== 2) continue;
    entries++;
    parts.push(reply.subarray(copied, start), entryHead(end - value + label.length), reply.subarray(value, end), label);
    copied = end;
  }
  parts.push(reply.subarray(copied));
  if (entries === 0) parts.push(entryHead(label.length), label);
  return Buffer.concat(parts);
}

/** A message of a stream, `{1: metadata, ...}`, with the host name in its metadata. */
export function labelMessage(message: Uint8Array, hostname: string): Uint8Array {
  return Buffer.concat([message, encodeLabel(hostname)]);
}

/** What stands in the place of the reply of a node that failed. */
export function errorReply(hostname: string, { code, message }: GrpcStatus, streaming: boolean): Uint8Array {
  const error = `rpc error: code = ${codeName(code)} desc = ${message}`;
  const metadata = { hostname, error, status: { code, message } };
  if (streaming) return toBinary(EmptySchema, create(EmptySchema, { metadata }));
  return toBinary(EmptyResponseSchema, create(EmptyResponseSchema, { messages: [{ metadata }] }));
}

function encodeLabel(hostname: string): Uint8Array {
  return toBinary(EmptySchema, create(EmptySchema, { metadata: { hostname } }));
}

/** Field 1, length-delimited. */
function entryHead(length: number): Uint8Array {
  const bytes = [0x0a];
  let rest = length;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

interface Field {
  /** Where its tag starts, where its content starts, and where it ends. */
  readonly start: number;
  readonly value: number;
  readonly end: number;
  readonly number: number;
  readonly type: number;
}

/** The fields of a message, outermost level only. Throws `data_loss`. */
function* fields(bytes: Uint8Array): Generator<Field> {
  const broken = () => new IchorError("data_loss", "the reply of the machine is no protobuf message");
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 10; shift++) {
      const byte = bytes[at++];
      if (byte === undefined) throw broken();
      // Beyond 2^53 only a skipped value can lie: lengths and tags that large are refused below.
      value += (byte & 0x7f) * 2 ** (7 * shift);
      if (byte < 0x80) return value;
    }
    throw broken();
  };
  while (at < bytes.length) {
    const start = at;
    const tag = varint();
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    if (number === 0 || number >= 2 ** 29) throw broken();
    if (type === 0) {
      const value = at;
      varint();
      yield { start, value, end: at, number, type };
      continue;
    }
    // Groups (3, 4) are not used by any of these services.
    const length = type === 1 ? 8 : type === 5 ? 4 : type === 2 ? varint() : undefined;
    if (length === undefined || length > bytes.length - at) throw broken();
    const value = at;
    at += length;
    yield { start, value, end: at, number, type };
  }
}
