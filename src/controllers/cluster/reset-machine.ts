import type { Deps } from "#controllers/deps.ts";
import type { Context } from "#engine/controller.ts";
import { MachineOperationSpec_Kind, MachineOperationSpec_Step } from "#gen/ichor/v1/ichor_pb.ts";
import { MachineOperationKind } from "#kinds/machine/machine-operation.ts";
import { codeOf } from "#lib/errors.ts";
import { machineError, type TalosClient } from "#talos/client.ts";
import type { Live } from "./cluster-machine-config-status.ts";
import { keepOperation } from "./operation.ts";

const { RESET } = MachineOperationSpec_Kind;
const step = MachineOperationSpec_Step;
/** META key of what unlocks an encrypted STATE. */
const metaStateEncryption = 9;
/** Times that the machine is asked to leave in good order; after that it is wiped as it is. */
const gracefulAttempts = 4;
const etcdAttempts = 2;
/** A machine that was told to reset and still runs is told again after this. */
const resetWithin = 60_000;

/** How a machine leaves. */
interface Leaving {
  readonly controlPlane: boolean;
  /** The whole cluster goes: nobody has to be told. */
  readonly alone: boolean;
}

/** Takes a machine out of etcd and wipes it (protocols.md 5.8). True when it is back in maintenance. */
export async function resetMachine(
  { clients }: Deps,
  context: Context,
  live: Live,
  { controlPlane, alone }: Leaving,
): Promise<boolean> {
  const { id } = live;
  if (live.maintenance) return true;
  const before = (await context.get(MachineOperationKind, id))?.spec;
  const asked = before?.kind === RESET && before.step === step.RESETTING && before.bootKey === live.bootKey;
  const since = Number(before?.updated?.seconds ?? 0n) * 1000;
  if (asked && !before.error && context.clock.now() - since < resetWithin) {
    context.again(resetWithin);
    return false;
  }
  const operation = await keepOperation(context, id, RESET, (spec) => {
    spec.step = controlPlane && !alone ? step.LEAVING_ETCD : step.RESETTING;
    spec.attempts++;
    spec.error = "";
  });
  const client = await clients.ofCluster(live.address, live.cluster);
  try {
    await ignore(
      client.machine.metaDelete({ key: metaStateEncryption }, { signal: context.signal, timeoutMs: 15_000 }),
      ["not_found", "unimplemented", "failed_precondition"],
    );
    if (controlPlane && !alone && operation.attempts <= etcdAttempts) await leaveEtcd(client, context.signal);
    await keepOperation(context, id, RESET, (spec) => {
      spec.step = step.RESETTING;
      spec.bootKey = live.bootKey;
      spec.message = `wiping, attempt ${spec.attempts}`;
    });
    await client.machine.reset(
      {
        graceful: !alone && operation.attempts <= gracefulAttempts,
        reboot: true,
        systemPartitionsToWipe: [
          { label: "EPHEMERAL", wipe: true },
          { label: "STATE", wipe: true },
        ],
      },
      { signal: context.signal, timeoutMs: 60_000 },
    );
  } catch (cause) {
    const error = machineError(cause, "resetting the machine");
    await keepOperation(context, id, RESET, (spec) => {
      spec.error = error.message;
    });
    throw error;
  } finally {
    client.close();
  }
  context.again(resetWithin);
  return false;
}

async function leaveEtcd(client: TalosClient, signal: AbortSignal): Promise<void> {
  const options = { signal, timeoutMs: 60_000 };
  await ignore(client.machine.etcdForfeitLeadership({}, options), ["not_found", "failed_precondition", "unavailable"]);
  await client.machine.etcdLeaveCluster({}, options);
}

async function ignore(work: Promise<unknown>, codes: readonly string[]): Promise<void> {
  try {
    await work;
  } catch (cause) {
    const error = machineError(cause, "");
    if (!codes.includes(codeOf(error))) throw error;
  }
}
