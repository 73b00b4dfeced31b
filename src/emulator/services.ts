import { ServiceStateEvent_Action, ServiceStateEventSchema } from "#gen/machine/machine_pb.ts";
import type { Clock } from "#lib/clock.ts";
import type { EventRing } from "./join/events.ts";
import type { Collection } from "./state/collection.ts";
import { types } from "./state/types.ts";

/** States of a service, as Talos prints them. */
export type ServiceState =
  | "Initialized"
  | "Preparing"
  | "Waiting"
  | "Pre"
  | "Running"
  | "Stopping"
  | "Finished"
  | "Failed"
  | "Skipped";

/** A service of a machine. */
export interface Service {
  readonly id: string;
  readonly state: ServiceState;
  readonly message: string;
  /** undefined: has no health check, or not checked yet. */
  readonly healthy: boolean | undefined;
  readonly changed: number;
  readonly events: readonly { readonly state: ServiceState; readonly message: string; readonly at: number }[];
}

const eventActions: Record<ServiceState, ServiceStateEvent_Action> = {
  Initialized: ServiceStateEvent_Action.INITIALIZED,
  Preparing: ServiceStateEvent_Action.PREPARING,
  Waiting: ServiceStateEvent_Action.WAITING,
  Pre: ServiceStateEvent_Action.PREPARING,
  Running: ServiceStateEvent_Action.RUNNING,
  Stopping: ServiceStateEvent_Action.STOPPING,
  Finished: ServiceStateEvent_Action.FINISHED,
  Failed: ServiceStateEvent_Action.FAILED,
  Skipped: ServiceStateEvent_Action.SKIPPED,
};

const eventsKept = 20;

/** The services of one boot: each change is an event, a resource and a line of the service's log. */
export class Services {
  readonly #table = new Map<string, Service>();
  readonly #clock: Clock;
  readonly #events: EventRing;
  readonly #state: Collection;
  readonly #note: (line: string) => void;

  constructor(options: { clock: Clock; events: EventRing; state: Collection; note: (line: string) => void }) {
    this.#clock = options.clock;
    this.#events = options.events;
    this.#state = options.state;
    this.#note = options.note;
  }
  get(id: string): Service | undefined {
    return this.#table.get(id);
  }
  list(): Service[] {
    return [...this.#table.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }
  /** Moves a service to a state; creates it first when new. */
  set(id: string, state: ServiceState, message: string, healthy?: boolean): void {
    const old = this.#table.get(id);
    if (old && old.state === state && old.message === message && old.healthy === healthy) return;
    const now = this.#clock.now();
    const events = [...(old?.events ?? []), { state, message, at: now }].slice(-eventsKept);
    this.#table.set(id, { id, state, message, healthy, changed: now, events });
    this.#events.publish(ServiceStateEventSchema, {
      service: id,
      action: eventActions[state],
      message,
      health: {
        unknown: healthy === undefined,
        healthy: healthy ?? false,
        lastMessage: "",
        lastChange: timestamp(now),
      },
    });
    if (state === "Running") {
      this.#state.put(types.service, id, { running: true, healthy: healthy ?? false, unknown: healthy === undefined });
    } else this.#state.remove(types.service, id);
    this.#note(`service[${id}](${state}): ${message}`);
  }
  /** Starts one as Talos does: waits, prepares, runs. */
  run(id: string, healthy: boolean | undefined = true): void {
    this.set(id, "Preparing", "Running pre state");
    this.set(id, "Running", `Started task ${id}`, healthy === undefined ? undefined : false);
    if (healthy) this.set(id, "Running", "Health check successful", true);
  }
  stopAll(): void {
    for (const service of this.list()) {
      if (service.state === "Running") this.set(service.id, "Finished", "Service finished successfully");
    }
  }
}

/** Milliseconds as a protobuf timestamp. */
export function timestamp(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.floor(ms % 1000) * 1e6 };
}
