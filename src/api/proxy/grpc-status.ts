import { type Code, IchorError } from "#lib/errors.ts";

/** gRPC's names in the order of its numbers, from 1. */
const names: readonly Code[] = [
  "canceled",
  "unknown",
  "invalid_argument",
  "deadline_exceeded",
  "not_found",
  "already_exists",
  "permission_denied",
  "resource_exhausted",
  "failed_precondition",
  "aborted",
  "out_of_range",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
  "unauthenticated",
];

/** A gRPC status: number and words. */
export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

/** Any failure as a status; words only of what is ours. */
export function statusOf(error: unknown): GrpcStatus {
  if (!(error instanceof IchorError)) return { code: 13, message: "the plane failed to pass the call on" };
  return { code: names.indexOf(error.code) + 1, message: error.message };
}

/** `PermissionDenied` for 7, as gRPC clients in Go print it. */
export function codeName(code: number): string {
  const name = names[code - 1];
  return name ? name.replace(/(^|_)([a-z])/g, (_, __, letter: string) => letter.toUpperCase()) : `Code(${code})`;
}

/** `grpc-message`: UTF-8 with percent signs for all but plain text (gRPC over HTTP/2). */
export function encodeMessage(message: string): string {
  return [...Buffer.from(message)]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
    )
    .join("");
}

/** The inverse; what is no percent code stays as it is. */
export function decodeMessage(text: string): string {
  const bytes = text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString();
}
