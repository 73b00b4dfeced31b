import { randomBytes } from "node:crypto";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";

/** Turns what a service throws into what clients know. What is not ours says nothing but a number that the log has too. */
export function errorInterceptor(log: Logger): Interceptor {
  const translate = (error: unknown): ConnectError => {
    if (error instanceof ConnectError) return error;
    if (error instanceof IchorError) return toConnectError(error);
    const incident = randomBytes(4).toString("hex");
    const stack = error instanceof Error ? error.stack : undefined;
    log.error({ incident, error: messageOf(error), stack }, "a call failed unexpectedly");
    return new ConnectError(`internal error; the plane's log has it as incident ${incident}`, Code.Internal);
  };
  return (next) => async (request) => {
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: guarded(response.message, translate) };
    } catch (error) {
      throw translate(error);
    }
  };
}

/** One of our errors as gRPC carries it. */
export function toConnectError({ code, message }: IchorError): ConnectError {
  const name = code.replace(/(^|_)([a-z])/g, (_, __, letter: string) => letter.toUpperCase());
  return new ConnectError(message, Code[name as keyof typeof Code] ?? Code.Unknown);
}

async function* guarded<T>(messages: AsyncIterable<T>, translate: (error: unknown) => ConnectError): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw translate(error);
  }
}
