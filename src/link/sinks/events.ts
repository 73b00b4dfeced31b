import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { EventSinkService } from "#gen/events/events_pb.ts";
import { type MachineStatusEvent, MachineStatusEventSchema } from "#gen/machine/machine_pb.ts";
import { MachineStatusSnapshotKind } from "#kinds/machine/machine-status-snapshot.ts";
import { codeOf, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Peers } from "#link/peers.ts";
import { callerAddress } from "#link/serve-h2c.ts";
import type { State } from "#store/state.ts";

/** Port inside the link (protocols.md 0.1). */
export const eventsPort = 8090;
const statusType = "type.googleapis.com/machine.MachineStatusEvent";
/** Pending machines whose last stage is remembered. */
const mostPending = 16_384;

/**
 * Takes events (protocols.md 4.1). All but the status are answered and dropped: an unanswered one would stop all that come after (trap 4).
 * What a machine told while it was pending counts once it is admitted, since it is not told again.
 */
export class EventSink {
  readonly #state: State;
  readonly #peers: () => Peers;
  readonly #log: Logger;
  readonly #pending = new Map<string, MachineStatusEvent>();

  constructor(state: State, peers: () => Peers, log: Logger) {
    this.#state = state;
    this.#peers = peers;
    this.#log = log;
  }

  routes(router: ConnectRouter): void {
    router.service(EventSinkService, {
      publish: async ({ data }, { values }) => {
        const address = values.get(callerAddress);
        const uuid = this.#peers().machineAt(address);
        if (uuid === undefined && !this.#peers().isPending(address))
          throw new ConnectError("this address belongs to no machine", Code.PermissionDenied);
        if (data?.typeUrl !== statusType) return {};
        let event: MachineStatusEvent;
        try {
          event = fromBinary(MachineStatusEventSchema, data.value);
        } catch (error) {
          // Answered like any other: the machine would tell it again and again, and nothing after it.
          this.#log.warn({ address, error: messageOf(error) }, "machine status cannot be decoded");
          return {};
        }
        if (uuid !== undefined) await this.#keep(uuid, event);
        else this.#remember(address, event);
        return {};
      },
    });
  }

  /** The last of each; beyond the bound, whoever spoke longest ago is forgotten. */
  #remember(address: string, event: MachineStatusEvent): void {
    this.#pending.delete(address);
    this.#pending.set(address, event);
    for (const oldest of this.#pending.keys()) {
      if (this.#pending.size <= mostPending) break;
      this.#pending.delete(oldest);
    }
  }

  /** A machine was admitted: what it told before counts now. */
  admitted(address: string, uuid: string): void {
    const event = this.#pending.get(address);
    this.#pending.delete(address);
    if (!event) return;
    this.#keep(uuid, event).catch((error: unknown) =>
      this.#log.warn({ machine: uuid, error: messageOf(error) }, "machine status not kept"),
    );
  }

  async #keep(uuid: string, event: MachineStatusEvent): Promise<void> {
    try {
      await this.#state.modify(MachineStatusSnapshotKind, uuid, ({ spec }) => {
        spec.machineStatus = event;
      });
    } catch (error) {
      // The machine is being forgotten: its events are of no use any more.
      if (codeOf(error) !== "invalid_argument") throw error;
    }
  }
}
