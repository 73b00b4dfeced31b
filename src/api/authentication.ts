import { Code, ConnectError, type ContextKey, createContextKey, type Interceptor } from "@connectrpc/connect";
import { atLeast, type Caller } from "#guard/caller.ts";
import type { Hold, Sessions } from "#guard/sessions.ts";
import { abortable } from "#lib/abort.ts";
import { IchorError } from "#lib/errors.ts";
import { leastRole } from "./method-access.ts";

const callerKey: ContextKey<Caller | undefined> = createContextKey<Caller | undefined>(undefined);

/** Who makes the call. Throws `unauthenticated`: only methods that need no caller are reached without. */
export function callerOf(values: { get<T>(key: ContextKey<T>): T }): Caller {
  const caller = values.get(callerKey);
  if (!caller) throw new ConnectError("sign in first", Code.Unauthenticated);
  return caller;
}

/** Finds out who calls, lets the call pass by the table of methods and roles, and ends streams with the session that they are for. */
export function authenticationInterceptor(sessions: Sessions): Interceptor {
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const least = leastRole(method);
    if (least === "anybody") return next(request);
    const caller = await sessions.authenticate((name) => request.header.get(name) ?? undefined);
    if (!caller) throw new IchorError("unauthenticated", "this call needs a credential: sign in first");
    if (!atLeast(caller.role, least))
      throw new IchorError(
        "permission_denied",
        `${method} needs the role ${least}; "${caller.identity}" has ${caller.role}`,
      );
    request.contextValues.set(callerKey, caller);
    if (request.method.methodKind === "unary") return next(request);
    const hold = sessions.hold(caller);
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: heldOpen(response.message, hold) };
      hold.release();
      return response;
    } catch (error) {
      hold.release();
      throw error;
    }
  };
}

async function* heldOpen<T>(messages: AsyncIterable<T>, hold: Hold): AsyncGenerator<T> {
  const iterator = messages[Symbol.asyncIterator]();
  let over = false;
  try {
    for (;;) {
      const next = await abortable(iterator.next(), hold.signal);
      if (next.done) {
        over = true;
        return;
      }
      yield next.value;
    }
  } finally {
    hold.release();
    // Not waited for: it may be in the middle of a wait that only the end of the call ends.
    if (!over) iterator.return?.()?.catch(() => {});
  }
}
