import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";
import type { Context, Controller, Reader } from "./controller.ts";

/** A reader of the kinds that a controller declares, and of no other. */
export function restrictReader(controller: Controller, state: State): Reader {
  const declared = new Set([...controller.inputs, ...controller.outputs].map(({ kind }) => kind.type));
  const check = (type: string) => {
    if (!declared.has(type))
      throw new IchorError(
        "permission_denied",
        `${controller.name} reads ${type} without declaring it: it would not be woken by it`,
      );
  };
  return {
    get: (kind, id) => {
      check(kind.type);
      return state.get(kind, id);
    },
    list: (kind, query) => {
      check(kind.type);
      return state.list(kind, query);
    },
  };
}

interface Surroundings {
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly again: (ms: number) => void;
}

/** What a reconciler gets: see {@link Context}. */
export function makeContext(controller: Controller, state: State, surroundings: Surroundings): Context {
  const own = state.as(controller.name);
  const outputs = new Set(controller.outputs.map(({ kind }) => kind.type));
  const checkOutput = (type: string) => {
    if (!outputs.has(type))
      throw new IchorError("permission_denied", `${controller.name} writes ${type} without declaring it`);
  };
  return {
    ...restrictReader(controller, state),
    ...surroundings,
    async modify(kind, id, edit) {
      checkOutput(kind.type);
      return own.modify(kind, id, edit);
    },
    async remove(kind, id) {
      checkOutput(kind.type);
      const key = kind.key(id);
      try {
        if (!(await own.teardown(key))) return false;
        await own.destroy(key);
        return true;
      } catch (error) {
        if (error instanceof IchorError && error.code === "not_found") return true;
        // Somebody held it in between: its release wakes us.
        if (error instanceof IchorError && error.code === "failed_precondition") return false;
        throw error;
      }
    },
    async hold(key) {
      if (!controller.inputs.some((input) => input.holds && input.kind.type === key.type)) {
        throw new IchorError("permission_denied", `${controller.name} holds ${key.type} without declaring it`);
      }
      await own.addFinalizer(key, controller.name);
    },
    async release(key) {
      await own.removeFinalizer(key, controller.name);
    },
  };
}
