/** How long an emulated machine takes for what a real one takes long for, in milliseconds. */
export interface Delays {
  /** Firmware and kernel, until machined runs. */
  readonly firmware: number;
  /** DHCP and link up. */
  readonly network: number;
  /** Pulling one image. */
  readonly pull: number;
  /** Running the installer. */
  readonly install: number;
  /** One boot phase (services start in phases). */
  readonly phase: number;
  /** kubelet from start to its node being Ready. */
  readonly kubelet: number;
  /** Answering a call that starts a sequence, before the sequence begins. */
  readonly grace: number;
  /** At most, for the last events to leave before a reboot. */
  readonly drain: number;
  /** First delay of every retry; doubles up to `retryMax`. */
  readonly retry: number;
  readonly retryMax: number;
}

/** `real`: small but in a real machine's proportions. `none`: nothing is waited for (retries still back off a little). */
export const delayProfiles = {
  real: {
    firmware: 3000,
    network: 800,
    pull: 2500,
    install: 6000,
    phase: 250,
    kubelet: 2500,
    grace: 300,
    drain: 10_000,
    retry: 1000,
    retryMax: 60_000,
  },
  none: {
    firmware: 0,
    network: 0,
    pull: 0,
    install: 0,
    phase: 0,
    kubelet: 0,
    grace: 20,
    drain: 5000,
    retry: 50,
    retryMax: 5000,
  },
} as const satisfies Record<string, Delays>;

/** Name of a profile. */
export type DelayProfile = keyof typeof delayProfiles;
