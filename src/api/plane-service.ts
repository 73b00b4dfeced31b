import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { PlaneService } from "#gen/ichor/v1/ichor_pb.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import type { State } from "#store/state.ts";

/** What the plane tells of itself. */
export interface PlaneFacts {
  readonly state: State;
  readonly version: string;
  /** Milliseconds since the Unix epoch. */
  readonly started: number;
  /** The graph of controllers and kinds, Graphviz text. */
  readonly graph: () => string;
}

/** The plane itself. */
export function planeService({ state, version, started, graph }: PlaneFacts): ServiceImpl<typeof PlaneService> {
  return {
    graph: () => ({ dot: graph() }),
    async status() {
      const machines = await state.list(MachineKind);
      return {
        version,
        started: timestampFromMs(started),
        memoryBytes: BigInt(process.memoryUsage.rss()),
        machines: machines.length,
        connected: machines.filter(({ spec }) => spec.connected).length,
      };
    },
  };
}
