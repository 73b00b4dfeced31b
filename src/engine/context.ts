import type { Clock } from "#lib/clock.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Key } from "#resource/resource.ts";
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
  /** Notes, or strikes out, that this key waits for an output to be let go by others. */
  readonly leaving: (output: Key, on: boolean) => void;
}

/** What a reconciler gets: see {@link Context}. */
export function makeContext(
  controller: Controller,
  state: State,
  reader: Reader,
  { leaving, ...surroundings }: Surroundings,
): Context {
  const own = state.as(controller.name);
  const outputs = new Set(controller.outputs.map(({ kind }) => kind.type));
  const checkOutput = (type: string) => {
    if (!outputs.has(type))
      throw new IchorError("permission_denied", `${controller.name} writes ${type} without declaring it`);
  };
  return {
    ...reader,
    ...surroundings,
    async modify(kind, id, edit) {
      checkOutput(kind.type);
      return own.modify(kind, id, edit);
    },
    async remove(kind, id) {
      checkOutput(kind.type);
      const key = kind.key(id);
      // Noted before it is looked at: a release in between would be missed.
      leaving(key, true);
      try {
        if (!(await own.teardown(key))) return false;
        await own.destroy(key);
      } catch (error) {
        // Somebody held it in between: the release wakes us.
        if (codeOf(error) === "failed_precondition") return false;
        if (codeOf(error) !== "not_found") throw error;
      }
      leaving(key, false);
      return true;
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
