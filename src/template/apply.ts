import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { IchorError } from "#lib/errors.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { Plan, Step } from "./plan.ts";
import type { Wanted } from "./render.ts";

/** What carrying out a plan writes to the plane. */
export interface ResourceWriter {
  create(wanted: Wanted): Promise<void>;
  /** Writes over exactly the version that was read; `failed_precondition` when somebody else wrote meanwhile. */
  update(wanted: Wanted, current: Resource): Promise<void>;
  /** Marks for teardown; `not_found` is fine for the caller. */
  teardown(kind: AnyKind, id: string): Promise<void>;
  /** Waits until nobody holds it any more, then destroys it. */
  destroyWhenFree(kind: AnyKind, id: string, signal: AbortSignal): Promise<void>;
}

/** Told as the work goes on: before and after each step. */
export type Progress = (step: Step, state: "start" | "done") => void;

/**
 * Carries a plan out. Deletion has two phases (protocols.md 14.7): first machines and their sets, since what describes them must stay
 * until they are gone; then the rest. Interrupted anywhere, a new plan goes on from there.
 */
export async function applyPlan(
  plan: Plan,
  writer: ResourceWriter,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  for (const step of plan.steps) {
    signal.throwIfAborted();
    if (step.action === "delete") continue;
    progress(step, "start");
    if (step.action === "create") await writer.create(step.wanted);
    else await writer.update(step.wanted, step.current);
    progress(step, "done");
  }
  const deletes = plan.steps.filter((step) => step.action === "delete");
  const machines = deletes.filter(({ kind }) => kind === MachineSetNodeKind || kind === MachineSetKind);
  const rest = deletes.filter((step) => !machines.includes(step));
  for (const phase of [machines, rest]) {
    for (const step of phase) {
      progress(step, "start");
      await ignoreGone(writer.teardown(step.kind, step.current.metadata.id));
    }
    for (const step of phase) {
      await ignoreGone(writer.destroyWhenFree(step.kind, step.current.metadata.id, signal));
      progress(step, "done");
    }
  }
}

async function ignoreGone(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof IchorError && error.code === "not_found")) throw error;
  }
}
