import type { Clock } from "#lib/clock.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";
import type { Dial } from "#talos/dial.ts";
import type { JoinTarget } from "#talos/kernelargs.ts";
import type { MachineClients } from "./machine-clients.ts";

/** What controllers are made with. */
export interface Deps {
  readonly state: State;
  readonly dial: Dial;
  readonly clients: MachineClients;
  readonly clock: Clock;
  readonly log: Logger;
  readonly settings: Settings;
}

/** What the operator decides for the whole plane. */
export interface Settings {
  /** `https://factory.talos.dev`. */
  readonly imageFactory: string;
  /** Where Kubernetes images come from: `registry.k8s.io`. */
  readonly kubernetesRegistry: string;
  /** Where a machine that came with that token finds the plane. */
  readonly joinTarget: (joinToken: string, tunnel: boolean) => JoinTarget;
}
