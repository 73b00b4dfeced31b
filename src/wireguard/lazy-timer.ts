import type { Clock, Timer } from "#lib/clock.ts";

/** A timer that is moved with every packet: moving it later costs a number, not a timer. */
export class LazyTimer {
  readonly #clock: Clock;
  readonly #fire: () => void;
  #timer: Timer | undefined;
  /** When the underlying timer fires, and when this one should; undefined = off. */
  #armed = 0;
  #deadline: number | undefined;

  constructor(clock: Clock, fire: () => void) {
    this.#clock = clock;
    this.#fire = fire;
  }

  get on(): boolean {
    return this.#deadline !== undefined;
  }

  set(ms: number): void {
    this.#deadline = this.#clock.monotonic() + ms;
    if (this.#timer && this.#armed <= this.#deadline) return;
    this.#timer?.cancel();
    this.#arm(ms);
  }

  /** Sets it unless it is on already. */
  setOnce(ms: number): void {
    if (this.#deadline === undefined) this.set(ms);
  }

  clear(): void {
    this.#deadline = undefined;
  }

  /** Also lets the underlying timer go. */
  close(): void {
    this.#deadline = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(ms: number): void {
    this.#armed = this.#clock.monotonic() + ms;
    this.#timer = this.#clock.after(ms, () => {
      this.#timer = undefined;
      if (this.#deadline === undefined) return;
      const left = this.#deadline - this.#clock.monotonic();
      if (left > 0) {
        this.#arm(left);
        return;
      }
      this.#deadline = undefined;
      this.#fire();
    });
  }
}
