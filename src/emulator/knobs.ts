/** What can be made to fail on a machine; each can be changed while it runs. */
export interface Knobs {
  /** ApplyConfiguration is refused with `InvalidArgument` and this text. */
  refuseConfig?: string | undefined;
  /** Installers take this many times as long. */
  slowInstall?: number;
  /** Installers end with exit code 1: no space left on device. */
  diskFull?: boolean;
  /** Images cannot be pulled: `Unavailable`. */
  registryDown?: boolean;
  /** The wall clock is wrong by this many milliseconds, and time is never synced. */
  clockOffset?: number;
  /** Share of datagrams that are lost both ways, 0 to 1. */
  loss?: number;
}
