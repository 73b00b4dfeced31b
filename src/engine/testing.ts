import { type StringValue, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Registry } from "prom-client";
import { ManualClock } from "#lib/clock.ts";
import { type Logger, silent } from "#lib/log.ts";
import { defineKind, type Kind } from "#resource/kind.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import type { Store } from "#store/store.ts";
import type { Controller } from "./controller.ts";
import { Engine } from "./engine.ts";

/** A kind of texts, for tests of what works with any kind. */
export function textKind(name: string, secretId = false): Kind<StringValue> {
  return defineKind({ type: `${name}.test`, namespace: "test", spec: StringValueSchema, writer: "plane", secretId });
}

/** A controller that says only what a test is about. */
export function controller(
  name: string,
  parts: Partial<Omit<Controller, "name">> & Pick<Controller, "reconcile">,
): Controller {
  return { name, purpose: `is tested as ${name}`, inputs: [], outputs: [], ...parts };
}

/** An engine over a real store, in the test's own time. */
export class TestEngine {
  readonly clock = new ManualClock();
  readonly metrics = new Registry();
  readonly engine: Engine;
  /** Reads and writes past the engine, as a user. */
  readonly state: State;

  constructor(
    controllers: readonly Controller[],
    wrap: (store: Store) => Store = (store) => store,
    log: Logger = silent,
  ) {
    const store = new MemoryStore({ clock: this.clock });
    this.state = new State(store);
    const { clock, metrics } = this;
    this.engine = new Engine({ store: wrap(store), controllers, clock, log, metrics });
  }

  /** Lets everything happen that can happen now. */
  async turn(): Promise<void> {
    do {
      // Nothing here waits for anything but promises: all of those are done when the turn is over.
      await new Promise((resolve) => setImmediate(resolve));
    } while (!this.engine.idle);
  }

  /** Lets time go on until nothing waits for it any more. Throws when that does not come about. */
  async settle(step = 30_000, most = 10_000): Promise<void> {
    for (let steps = 0; steps < most; steps++) {
      await this.turn();
      if (this.clock.pending === 0) return;
      this.clock.advance(step);
    }
    throw new Error(`not settled: ${JSON.stringify(this.engine.status())}`);
  }
}
