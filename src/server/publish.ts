import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Engine } from "#engine/engine.ts";
import { ControllerStatusSpec_FailingSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { ControllerStatusKind } from "#kinds/access/controller-status.ts";
import { SysVersionKind } from "#kinds/access/sys-version.ts";
import { SiderolinkAPIConfigKind } from "#kinds/machine/siderolink-api-config.ts";
import type { Clock } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";

/** Version of the API that Omni's clients ask for (protocols.md 11.2). */
const backendApiVersion = 3;
/** Reconciles within this many milliseconds are told of together. */
const gather = 1000;

/** Tells clients what this plane is and where machines reach it. */
export async function publishPlane(
  state: State,
  version: string,
  at: { readonly machineApi: string; readonly wireguard: string; readonly events: number; readonly logs: number },
): Promise<void> {
  const own = state.as("plane");
  await own.modify(SysVersionKind, "current", ({ spec }) => {
    spec.backendVersion = version;
    spec.instanceName = "ichor";
    spec.backendApiVersion = backendApiVersion;
  });
  await own.modify(SiderolinkAPIConfigKind, "siderolink-config", ({ spec }) => {
    spec.machineApiAdvertisedUrl = at.machineApi;
    spec.wireguardAdvertisedEndpoint = at.wireguard;
    spec.eventsPort = at.events;
    spec.logsPort = at.logs;
  });
}

/** Writes how controllers stand, so that the console shows it; answers how to stop. */
export function publishControllers(engine: Engine, state: State, clock: Clock, log: Logger): () => void {
  const own = state.as("engine");
  const due = new Set<string>();
  let timer: { cancel(): void } | undefined;
  const write = async (name: string): Promise<void> => {
    const found = engine.status().find((status) => status.name === name);
    if (!found) return;
    await own.modify(ControllerStatusKind, name, ({ spec }) => {
      spec.purpose = found.purpose;
      spec.reconciles = BigInt(found.reconciles);
      spec.failures = BigInt(found.failures);
      spec.queued = found.queued;
      spec.failing = found.failing.map(({ key, error, since, attempts }) =>
        create(ControllerStatusSpec_FailingSchema, { key, error, since: timestampFromMs(since), attempts }),
      );
    });
  };
  const flush = () => {
    timer = undefined;
    for (const name of due) {
      due.delete(name);
      void write(name).catch((error: unknown) =>
        log.warn({ error: messageOf(error) }, "controller status not written"),
      );
    }
  };
  const stop = engine.onStatus((name) => {
    due.add(name);
    timer ??= clock.after(gather, flush);
  });
  for (const { name } of engine.status()) due.add(name);
  timer = clock.after(0, flush);
  return () => {
    stop();
    timer?.cancel();
  };
}
