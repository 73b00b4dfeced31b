import type { Deps } from "#controllers/deps.ts";
import type { Context } from "#engine/controller.ts";
import { ContainerDriver, ContainerdNamespace } from "#gen/common/common_pb.ts";
import { MachineOperationSpec_Kind, MachineOperationSpec_Step } from "#gen/ichor/v1/ichor_pb.ts";
import type { ClusterMachineConfigSpec } from "#gen/specs/specs_pb.ts";
import { MachineOperationKind } from "#kinds/machine/machine-operation.ts";
import { IchorError } from "#lib/errors.ts";
import type { Resource } from "#resource/resource.ts";
import { machineError, type TalosClient } from "#talos/client.ts";
import { isMain, parseConfig } from "#talos/document.ts";
import type { Live } from "./cluster-machine-config-status.ts";
import { keepOperation } from "./operation.ts";

const { INSTALL } = MachineOperationSpec_Kind;
const step = MachineOperationSpec_Step;
const fiveMinutes = 300_000;
/** A machine that was told to reboot and did not is told again after this. */
const rebootWithin = 120_000;
const containerd = { driver: ContainerDriver.CONTAINERD, namespace: ContainerdNamespace.NS_SYSTEM };

/** Installs Talos on a machine in maintenance: pull, install, reboot (protocols.md 5.8). True when it runs from its disk. */
export async function installTalos(
  { clients }: Deps,
  context: Context,
  live: Live,
  disk: string,
  config: Resource<ClusterMachineConfigSpec>,
): Promise<boolean> {
  const { id } = live;
  let operation = (await context.get(MachineOperationKind, id))?.spec;
  if (operation?.kind === INSTALL && operation.step === step.REBOOTING && operation.bootKey !== live.bootKey) {
    if (live.installed) {
      await keepOperation(context, id, INSTALL, (spec) => {
        spec.step = step.DONE;
        spec.message = "installed";
        spec.error = "";
      });
      return true;
    }
    // It came back without what was installed: from the start.
    operation = undefined;
  }
  const rebooting = operation?.kind === INSTALL && operation.step === step.REBOOTING;
  const asked = Number(operation?.updated?.seconds ?? 0n) * 1000;
  if (rebooting && !operation?.error && context.clock.now() - asked < rebootWithin) {
    context.again(rebootWithin);
    return false;
  }
  const client = clients.maintenance(live.address);
  try {
    if (operation?.kind !== INSTALL || operation.step !== step.REBOOTING) {
      const image = imageOf(config);
      await keepOperation(context, id, INSTALL, (spec) => {
        spec.step = step.PULLING;
        spec.image = image;
        spec.disk = disk;
        spec.error = "";
        spec.attempts++;
      });
      const tell = (message: string) =>
        keepOperation(context, id, INSTALL, (spec) => {
          spec.message = message;
        });
      const pulled = await pull(client, image, context.signal, tell);
      await keepOperation(context, id, INSTALL, (spec) => {
        spec.step = step.INSTALLING;
      });
      await install(client, pulled, disk, context.signal, tell);
      await keepOperation(context, id, INSTALL, (spec) => {
        spec.step = step.REBOOTING;
        spec.message = "rebooting from the disk";
        spec.bootKey = live.bootKey;
      });
    }
    await reboot(client, context.signal);
  } catch (cause) {
    const error = machineError(cause, "installing Talos");
    await keepOperation(context, id, INSTALL, (spec) => {
      spec.error = error.message;
    });
    throw error;
  } finally {
    client.close();
  }
  context.again(rebootWithin);
  return false;
}

/** A machine that is on its way may take the answer with it. */
async function reboot(client: TalosClient, signal: AbortSignal): Promise<void> {
  try {
    await client.machine.reboot({}, { signal, timeoutMs: 60_000 });
  } catch (cause) {
    const error = machineError(cause, "rebooting");
    if (error.code !== "unavailable" && error.code !== "aborted" && error.code !== "canceled") throw error;
  }
}

async function pull(
  client: TalosClient,
  image: string,
  signal: AbortSignal,
  tell: (message: string) => Promise<unknown>,
): Promise<string> {
  let name = image;
  let layers = 0;
  for await (const { response } of client.images.pull(
    { containerd, imageRef: image },
    { signal, timeoutMs: fiveMinutes },
  )) {
    if (response.case === "name") name = response.value;
    // A message for each whole layer: progress of bytes would be a write for each.
    else if (response.case === "pullProgress" && response.value.progress?.status === 3)
      await tell(`pulling ${image}: ${++layers} layers`);
  }
  return name;
}

async function install(
  client: TalosClient,
  imageName: string,
  disk: string,
  signal: AbortSignal,
  tell: (message: string) => Promise<unknown>,
): Promise<void> {
  let exitCode: number | undefined;
  let last = "";
  try {
    const request = { containerd, source: { imageName }, destination: { disk } };
    for await (const { progress } of client.lifecycle.install(request, { signal, timeoutMs: fiveMinutes })) {
      const { response } = progress ?? {};
      if (response?.case === "exitCode") exitCode = response.value;
      else if (response?.case === "message") {
        last = response.value.trim().split("\n").at(-1) ?? last;
        await tell(last.slice(0, 500));
      }
    }
  } catch (cause) {
    // A plane that was killed after it: the machine has it already.
    if (machineError(cause, "").code === "already_exists") return;
    throw cause;
  }
  if (exitCode !== 0)
    throw new IchorError(
      "failed_precondition",
      `the installer ended with code ${exitCode ?? "none"}: ${last || "no message"}`,
    );
}

/** The image that the configuration names, so that both always are the same. */
function imageOf({ spec }: Resource<ClusterMachineConfigSpec>): string {
  for (const { document } of parseConfig(Buffer.from(spec.data).toString())) {
    if (!isMain(document)) continue;
    const { install: section } = (document.machine ?? {}) as { install?: { image?: unknown } };
    if (typeof section?.image === "string") return section.image;
  }
  throw new IchorError("failed_precondition", "the configuration names no installer image (machine.install.image)");
}
