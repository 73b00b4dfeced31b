import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Context } from "#engine/controller.ts";
import {
  type MachineOperationSpec,
  type MachineOperationSpec_Kind,
  MachineOperationSpec_Step,
} from "#gen/ichor/v1/ichor_pb.ts";
import { MachineOperationKind } from "#kinds/machine/machine-operation.ts";
import type { Draft } from "#store/state.ts";

/** Keeps how far an operation on a machine is; another kind than the one before starts from nothing. */
export async function keepOperation(
  context: Context,
  id: string,
  kind: MachineOperationSpec_Kind,
  edit: (spec: MachineOperationSpec) => void,
): Promise<MachineOperationSpec> {
  const now = timestampFromMs(context.clock.now());
  const { spec } = await context.modify(MachineOperationKind, id, (draft: Draft<MachineOperationSpec>) => {
    if (draft.spec.kind !== kind) clear(draft.spec);
    draft.spec.kind = kind;
    draft.spec.started ??= now;
    const before = JSON.stringify([draft.spec.step, draft.spec.message, draft.spec.error, draft.spec.attempts]);
    edit(draft.spec);
    const after = JSON.stringify([draft.spec.step, draft.spec.message, draft.spec.error, draft.spec.attempts]);
    if (before !== after || !draft.spec.updated) draft.spec.updated = now;
  });
  return spec;
}

function clear(spec: MachineOperationSpec): void {
  spec.step = MachineOperationSpec_Step.STEP_UNSPECIFIED;
  delete spec.started;
  delete spec.updated;
  spec.message = "";
  spec.error = "";
  spec.attempts = 0;
  spec.image = "";
  spec.disk = "";
  spec.bootKey = "";
}
