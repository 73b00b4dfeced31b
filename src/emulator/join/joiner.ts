import type { Network } from "#emulator/network.ts";

/** Who a machine says it is when it provisions. */
export interface JoinIdentity {
  readonly uuid: string;
  /** META 16, or the document's token, or "". */
  readonly uniqueToken: string;
  readonly talosVersion: string;
}

/** What a joiner tells its machine. */
export interface JoinEvents {
  /** The link is up (again): a network to use until the next call. */
  up(network: Network, link: { readonly name: string; readonly tunnel: boolean }): void;
  /** What is being done or went wrong, for the machine's log. */
  note(text: string): void;
}

/** Brings a machine into the link, and keeps it there until the signal aborts. */
export interface Joiner {
  /** The answer's `changed` makes it provision again (UUID, token or configuration changed). */
  start(options: {
    /** SideroLink API URL. */
    readonly url: string;
    readonly trustedRoots: readonly string[];
    readonly identity: () => JoinIdentity;
    readonly events: JoinEvents;
    readonly signal: AbortSignal;
  }): { changed(): void };
}
