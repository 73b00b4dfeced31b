import type { Message } from "@bufbuild/protobuf";
import { abortable, sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { TalosClient } from "#talos/client.ts";
import { type TalosEvent, type TalosKind, watchTalos } from "#talos/cosi.ts";
import { talosKinds } from "#talos/resources.ts";
import { Inventory } from "./inventory.ts";

/** Changes within this many milliseconds are published at once. */
const gather = 50;

/**
 * Watches all that the plane wants to know of a machine, and calls `publish` when the first picture is whole and after changes, never
 * twice at once. Ends by a throw: when the signal aborts, the machine goes, or `publish` throws.
 */
export async function watchMachine(
  client: TalosClient,
  clock: Clock,
  signal: AbortSignal,
  publish: (inventory: Inventory) => Promise<void>,
): Promise<never> {
  const { messages } = await client.machine.version({}, { signal, timeoutMs: 15_000 });
  const version = messages[0]?.version;
  const inventory = new Inventory({ tag: version?.tag ?? "", arch: version?.arch ?? "" });
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const kinds: readonly TalosKind<Message>[] = Object.values(talosKinds);
  let waiting = kinds.length;
  let changed = Promise.withResolvers<void>();
  const follow = (kind: TalosKind<Message>): Promise<never> => {
    let ready = false;
    const take = (event: TalosEvent<Message>) => {
      const difference = inventory.take(kind, event);
      if (event.kind === "ready" && !ready) {
        ready = true;
        waiting--;
      }
      if (difference && waiting === 0) changed.resolve();
    };
    return watchTalos(client, kind, take, both);
  };
  const tell = async (): Promise<never> => {
    for (;;) {
      await abortable(changed.promise, both);
      await sleep(gather, clock, both);
      changed = Promise.withResolvers();
      await publish(inventory);
    }
  };
  try {
    return await Promise.race([tell(), ...kinds.map(follow)]);
  } finally {
    stop.abort();
  }
}
