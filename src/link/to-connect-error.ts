import { Code, ConnectError } from "@connectrpc/connect";
import { IchorError } from "#lib/errors.ts";

/** An error as gRPC carries it; what is not ours says no more than that it is internal. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (!(error instanceof IchorError)) return new ConnectError("internal error", Code.Internal);
  const name = error.code.replace(/(^|_)([a-z])/g, (_, __, letter: string) => letter.toUpperCase());
  return new ConnectError(error.message, Code[name as keyof typeof Code] ?? Code.Unknown);
}
