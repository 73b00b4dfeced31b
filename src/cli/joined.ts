import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import type { Plane } from "./plane.ts";

/**
 * Waits until `count` machines (of those named, where names are given) are connected and the plane knows their hardware. `tell` gets the
 * number at each change. Throws the signal's reason when it aborts first.
 */
export async function waitForMachines(
  { state }: Plane,
  { count, of }: { readonly count: number; readonly of?: readonly string[] },
  tell: (joined: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const joined = new Set<string>();
  const stop = new AbortController();
  for await (const event of state.watch(MachineStatusKind, { signal: AbortSignal.any([signal, stop.signal]) })) {
    if (event.kind === "bootstrapped") continue;
    const { metadata, spec } = event.resource;
    if (of && !of.includes(metadata.id)) continue;
    const before = joined.size;
    if (event.kind !== "destroyed" && spec.connected && spec.hardware) joined.add(metadata.id);
    else joined.delete(metadata.id);
    if (joined.size !== before) tell(joined.size);
    if (joined.size >= count) stop.abort();
  }
  signal.throwIfAborted();
}
