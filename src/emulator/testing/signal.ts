/** Tells waiters that something changed: tests wait for states with it, never for a time. */
export class Signal {
  readonly #waiting = new Set<() => void>();

  fire(): void {
    for (const wake of [...this.#waiting]) wake();
  }
  /** Resolves when `holds`; looks at each firing. Rejects after `ms` with `what`, and what stands in the way according to `state`. */
  async until(what: string, holds: () => boolean, state = () => "", ms = 10_000): Promise<void> {
    if (holds()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const check = () => {
      if (holds()) resolve();
    };
    const timer = setTimeout(() => reject(new Error(`timed out waiting for ${what}${state()}`)), ms);
    this.#waiting.add(check);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(check);
    }
  }
}
