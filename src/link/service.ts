import { join } from "node:path";
import type { ConnectRouter } from "@connectrpc/connect";
import { ProvisionService, WireGuardOverGRPCService } from "#gen/sidero/link/link_pb.ts";
import { JoinTokenUsageKind } from "#kinds/machine/join-token-usage.ts";
import { MachineStatusSnapshotKind } from "#kinds/machine/machine-status-snapshot.ts";
import { NodeUniqueTokenKind } from "#kinds/machine/node-unique-token.ts";
import type { Clock } from "#lib/clock.ts";
import { codeOf, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { State } from "#store/state.ts";
import { ensureDefaultToken } from "./default-token.ts";
import { Discovery, discoveryPort } from "./discovery.ts";
import type { LinkEngine } from "./engine.ts";
import { MachineLogs } from "./logs/machine-logs.ts";
import { owner, Peers } from "./peers.ts";
import { Provisioner } from "./provision.ts";
import { serveH2C } from "./serve-h2c.ts";
import { EventSink, eventsPort } from "./sinks/events.ts";
import { listenForLogs } from "./sinks/logs.ts";
import { toConnectError } from "./to-connect-error.ts";
import { Tunnels } from "./tunnel.ts";

/** What the link runs with. */
export interface LinkOptions {
  readonly state: State;
  readonly engine: LinkEngine;
  readonly clock: Clock;
  readonly log: Logger;
  /** Machine logs are kept below it. */
  readonly directory: string;
  /** Advertised WireGuard endpoints, `host:port`, the preferred first. */
  readonly endpoints: () => readonly string[];
  /** Stops following the store; `close` does the rest. */
  readonly signal: AbortSignal;
}

/** The running link. */
export interface Link {
  readonly logs: MachineLogs;
  /** The UUID of the admitted machine with that address inside the link. */
  machineAt(address: string): string | undefined;
  /** What machines call before they have a tunnel: goes on the machine API's listener. */
  routes(router: ConnectRouter): void;
  close(): Promise<void>;
}

/** Starts all that machines need of the plane to join and to be heard (protocols.md 0.1). */
export async function startLink(options: LinkOptions): Promise<Link> {
  const { engine, clock, log, signal } = options;
  const state = options.state.as(owner);
  const logs = new MachineLogs({ directory: join(options.directory, "logs"), clock, log });
  const events = new EventSink(state, () => peers, log);
  let lines: Awaited<ReturnType<typeof listenForLogs>> | undefined;
  const peers: Peers = new Peers({
    state,
    engine,
    clock,
    log,
    onAdmitted: (address, uuid) => {
      events.admitted(address, uuid);
      lines?.admitted(address, uuid);
    },
    onForgotten: async (uuid) => {
      for (const kind of [NodeUniqueTokenKind, JoinTokenUsageKind, MachineStatusSnapshotKind] as AnyKind[])
        await remove(state, kind, uuid);
      await logs.remove(uuid);
    },
  });
  await ensureDefaultToken(state);
  await peers.start(signal);
  const discovery = new Discovery(clock);
  const machineAt = peers.machineAt.bind(peers);
  lines = await listenForLogs(engine, machineAt, peers.isPending.bind(peers), logs);
  const listeners = [
    await serveH2C(engine, eventsPort, (router) => events.routes(router)),
    await serveH2C(engine, discoveryPort, (router) => discovery.routes(router)),
    lines,
  ];
  const publicKey = Buffer.from(engine.publicKey).toString("base64");
  const provisioner = new Provisioner({ state, peers, clock, log, publicKey, endpoints: options.endpoints });
  const tunnels = new Tunnels(engine, peers);
  return {
    logs,
    machineAt,
    routes(router) {
      router.service(ProvisionService, {
        provision: async (request) => {
          try {
            return await provisioner.provision(request);
          } catch (error) {
            log.info({ machine: request.nodeUuid, error: messageOf(error) }, "machine not admitted");
            throw toConnectError(error);
          }
        },
      });
      router.service(WireGuardOverGRPCService, tunnels.service);
    },
    async close() {
      await Promise.all(listeners.map((listener) => listener.close()));
      discovery.close();
      await logs.close();
    },
  };
}

async function remove(state: State, kind: AnyKind, id: string): Promise<void> {
  try {
    if (await state.teardown(kind.key(id))) await state.destroy(kind.key(id));
  } catch (error) {
    if (codeOf(error) !== "not_found") throw error;
  }
}
