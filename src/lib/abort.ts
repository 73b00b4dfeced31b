import type { Clock } from "./clock.ts";

/** Resolves after `ms` on `clock`; rejects with the signal's reason when it aborts first. */
export function sleep(ms: number, clock: Clock, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.after(ms, () => {
      signal?.removeEventListener("abort", stop);
      resolve();
    });
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Races `promise` against `signal`: whoever waits can be told to stop. The promise itself goes on. */
export function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
    // Always heard: a promise that fails after nobody waits for it must not end the process.
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
