import { type Code, codeOf, messageOf } from "#lib/errors.ts";

/** An answer that is not a success, as Kubernetes says it. */
export class KubeError extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
  /** The Status object. */
  body(): object {
    return {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: this.message,
      reason: this.reason,
      code: this.status,
    };
  }
}

const fromCode: Partial<Record<Code, [number, string]>> = {
  not_found: [404, "NotFound"],
  already_exists: [409, "AlreadyExists"],
  aborted: [409, "Conflict"],
  invalid_argument: [400, "BadRequest"],
  unavailable: [503, "ServiceUnavailable"],
};

/** Any error as an answer; what we did not foresee is an internal error. */
export function toKubeError(error: unknown): KubeError {
  if (error instanceof KubeError) return error;
  const [status, reason] = fromCode[codeOf(error)] ?? [500, "InternalError"];
  return new KubeError(status, reason, messageOf(error));
}

/** 400 */
export function badRequest(message: string): KubeError {
  return new KubeError(400, "BadRequest", message);
}
/** 422 */
export function invalid(message: string): KubeError {
  return new KubeError(422, "Invalid", message);
}
