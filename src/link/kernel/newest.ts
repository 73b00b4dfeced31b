/**
 * Tells every follower what happens to many things, of each thing the newest alone: a slow follower costs as much memory as there are
 * things, and no more.
 */
export class Newest<T> {
  readonly #keyOf: (value: T) => string;
  readonly #followers = new Set<{ unread: Map<string, T>; wake: () => void }>();

  constructor(keyOf: (value: T) => string) {
    this.#keyOf = keyOf;
  }

  tell(value: T): void {
    const key = this.#keyOf(value);
    for (const { unread, wake } of this.#followers) {
      unread.delete(key);
      unread.set(key, value);
      wake();
    }
  }

  /** What is told from now on, until the signal aborts. */
  async *follow(signal: AbortSignal): AsyncGenerator<T> {
    const follower = { unread: new Map<string, T>(), wake: () => {} };
    const stop = () => follower.wake();
    this.#followers.add(follower);
    signal.addEventListener("abort", stop);
    try {
      while (!signal.aborted) {
        const [next] = follower.unread;
        if (next) {
          follower.unread.delete(next[0]);
          yield next[1];
          continue;
        }
        await new Promise<void>((resolve) => {
          follower.wake = resolve;
        });
      }
    } finally {
      this.#followers.delete(follower);
      signal.removeEventListener("abort", stop);
    }
  }
}
