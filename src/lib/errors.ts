/** The closed set of error codes, gRPC's own names, so that every edge can translate without loss. */
export type Code =
  | "canceled"
  | "unknown"
  | "invalid_argument"
  | "deadline_exceeded"
  | "not_found"
  | "already_exists"
  | "permission_denied"
  | "resource_exhausted"
  | "failed_precondition"
  | "aborted"
  | "out_of_range"
  | "unimplemented"
  | "internal"
  | "unavailable"
  | "data_loss"
  | "unauthenticated";

/**
 * The one error class. `message` is safe to show to the caller: it says what went wrong, where and what to do, and holds no
 * secret; whatever else helps goes into `cause`, which only the log sees.
 */
export class IchorError extends Error {
  override readonly name = "IchorError";
  readonly code: Code;

  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The code of any thrown value; `unknown` for what is not ours. */
export function codeOf(error: unknown): Code {
  return error instanceof IchorError ? error.code : "unknown";
}

/** Words for any thrown value, for logs and states; never the stack. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  // Objects that have no text of their own throw when asked for one.
  return typeof error === "object" && error !== null ? "something that is no error was thrown" : String(error);
}
