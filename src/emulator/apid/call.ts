import { Code, ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { Boot } from "#emulator/boot.ts";
import { IchorError, type Code as OurCode } from "#lib/errors.ts";

/** Who calls which machine. */
export interface Call {
  readonly boot: Boot;
  /** Roles of the caller's certificate, or those of maintenance. */
  readonly roles: ReadonlySet<string>;
  /** Address that the connection came from. */
  readonly peer: string;
}

const none: Call | undefined = undefined;

/** Where a handler finds its call. */
export const callKey = createContextKey<Call | undefined>(none, { description: "machine and caller" });

/** The call of a handler. */
export function callOf(context: HandlerContext): Call {
  const call = context.values.get(callKey);
  if (!call) throw new ConnectError("no machine", Code.Internal);
  return call;
}

/** The machine of a handler. */
export function bootOf(context: HandlerContext): Boot {
  return callOf(context).boot;
}

const codes: Record<OurCode, Code> = {
  canceled: Code.Canceled,
  unknown: Code.Unknown,
  invalid_argument: Code.InvalidArgument,
  deadline_exceeded: Code.DeadlineExceeded,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  out_of_range: Code.OutOfRange,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
  unavailable: Code.Unavailable,
  data_loss: Code.DataLoss,
  unauthenticated: Code.Unauthenticated,
};

/** Our errors as gRPC statuses. */
export function toConnectError(error: unknown): unknown {
  return error instanceof IchorError
    ? new ConnectError(error.message, codes[error.code], undefined, undefined, error)
    : error;
}
