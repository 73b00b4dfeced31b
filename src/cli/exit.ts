import { Code, ConnectError } from "@connectrpc/connect";
import { codeOf, IchorError, type Code as OurCode } from "#lib/errors.ts";

/** Exit codes that scripts may rely on; anything else that fails is 1, an interrupt 130. */
const exitCodes: Partial<Record<OurCode, number>> = {
  invalid_argument: 2,
  not_found: 3,
  permission_denied: 4,
  unauthenticated: 4,
  unavailable: 5,
  failed_precondition: 6,
  already_exists: 6,
  aborted: 130,
};

/** Any error as ours: what the API answered keeps its code and words. */
export function toIchorError(error: unknown): IchorError {
  if (error instanceof IchorError) return error;
  if (error instanceof ConnectError) {
    // Nobody here cancels without saying why: the other end was gone.
    if (error.code === Code.Canceled)
      return new IchorError("unavailable", "the connection to the plane ended: does it still run?", { cause: error });
    const code = Code[error.code].replace(/[A-Z]/g, (letter, at) => (at ? "_" : "") + letter.toLowerCase()) as OurCode;
    return new IchorError(code, error.rawMessage, { cause: error });
  }
  return new IchorError("unknown", error instanceof Error ? error.message : String(error), { cause: error });
}

/** Tells the person what went wrong and answers the exit code. */
export function report(error: unknown): number {
  const ours = toIchorError(error);
  process.stderr.write(`ichor: ${ours.message}\n`);
  return exitCodes[codeOf(ours)] ?? 1;
}
