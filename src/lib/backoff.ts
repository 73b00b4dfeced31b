/** Exponential delays with full jitter over the upper half, in milliseconds. */
export interface BackoffOptions {
  /** First delay. Default 100. */
  initial?: number;
  /** Largest delay. Default 30,000. */
  max?: number;
  /** Random source in [0, 1). Default Math.random. */
  random?: () => number;
}

/** Delay before try number `attempt` (0 = the first retry): between half of and the whole min(max, initial * 2^attempt). */
export function backoffDelay(attempt: number, options: BackoffOptions = {}): number {
  const { initial = 100, max = 30_000, random = Math.random } = options;
  const ceiling = Math.min(max, initial * 2 ** Math.min(attempt, 30));
  return ceiling / 2 + (ceiling / 2) * random();
}
