import type { Message } from "@bufbuild/protobuf";
import { codeOf } from "#lib/errors.ts";
import type { AnyKind, Kind } from "#resource/kind.ts";
import type { Key, Resource } from "#resource/resource.ts";
import type { Draft } from "#store/state.ts";
import type { Context, Controller, Input } from "./controller.ts";

/** A mapping from each resource of one kind to one of another. */
export interface TransformOptions<I extends Message, O extends Message> {
  readonly name: string;
  readonly purpose: string;
  readonly input: Kind<I>;
  readonly output: Kind<O>;
  /** Other kinds that are read or written; their changes wake what `wakes` says. */
  readonly inputs?: readonly Input[];
  readonly outputs?: readonly { readonly kind: AnyKind; readonly shared?: boolean }[];
  readonly concurrency?: number;
  readonly resync?: number;
  readonly timeout?: number;
  /** True when other controllers write the output kind too. */
  readonly shared?: boolean;
  /**
   * Edits the output, which is created from nothing if need be. `false` leaves it as it is, or absent. Work with side effects
   * happens here too; it must be idempotent.
   */
  readonly transform: (
    context: Context,
    input: Resource<I>,
    current: Resource<O> | undefined,
  ) => Promise<((draft: Draft<O>) => void | boolean) | false | "remove">;
  /** Undoes side effects when the input goes; true when done. Called before the output goes. */
  readonly teardown?: (context: Context, input: Resource<I>) => Promise<boolean>;
}

/**
 * The usual controller: one output for each input, with the input's id. While the input runs, it is held and the output kept; when
 * it is being torn down, the output goes first, then the input is let go.
 */
export function transform<I extends Message, O extends Message>(options: TransformOptions<I, O>): Controller {
  const { name, purpose, input, output } = options;
  return {
    name,
    purpose,
    inputs: [{ kind: input, holds: true }, ...(options.inputs ?? [])],
    outputs: [{ kind: output, ...(options.shared ? { shared: true } : {}) }, ...(options.outputs ?? [])],
    ...(options.concurrency ? { concurrency: options.concurrency } : {}),
    ...(options.resync ? { resync: options.resync } : {}),
    ...(options.timeout ? { timeout: options.timeout } : {}),
    async reconcile(key, context) {
      const from = await context.get(input, key);
      if (!from) {
        await context.remove(output, key);
        return;
      }
      if (from.metadata.phase === "tearingDown") {
        if (!from.metadata.finalizers.includes(name)) return;
        if (options.teardown && !(await options.teardown(context, from))) return;
        if (!(await context.remove(output, key))) return;
        await context.release(input.key(key));
        return;
      }
      if (!from.metadata.finalizers.includes(name) && !(await tryHold(context, input.key(key)))) return;
      const current = await context.get(output, key);
      // On its way out from an earlier time: it makes room first.
      const leaving = current?.metadata.phase === "tearingDown";
      if (leaving && !(await context.remove(output, key))) return;
      const edit = await options.transform(context, from, leaving ? undefined : current);
      if (edit === "remove") await context.remove(output, key);
      else if (edit) await context.modify(output, key, edit);
    },
  };
}

/** False when it went, or began to go, in between: that wakes the key again. */
async function tryHold(context: Context, key: Key): Promise<boolean> {
  try {
    await context.hold(key);
    return true;
  } catch (error) {
    if (codeOf(error) === "invalid_argument" || codeOf(error) === "not_found") return false;
    throw error;
  }
}
