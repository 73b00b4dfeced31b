// Waiting for what another program does and tells nobody: the only way to know is to look again.
import { setTimeout as after } from "node:timers/promises";

/** The time between two looks. */
export const pause = () => after(10);

/** Waits for a state; the timeout of the test is its bound. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pause();
}

/** Looks until there is something to be seen, and answers that; the timeout of the test is its bound. */
export async function eventually<T>(look: () => Promise<T | undefined | false>, signal: AbortSignal): Promise<T> {
  for (;;) {
    signal.throwIfAborted();
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    await pause();
  }
}
