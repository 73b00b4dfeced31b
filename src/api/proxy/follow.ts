import type { Message } from "@bufbuild/protobuf";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Clock } from "#lib/clock.ts";
import { codeOf, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { State } from "#store/state.ts";

/** What is done with the resources of a kind as they come and go. Neither may throw. */
export interface Follower<S extends Message> {
  put(resource: Resource<S>): void;
  remove(id: string): void;
  /** All that exists has been put; again after each new start of the watch. */
  ready(): void;
}

/**
 * Keeps a follower equal to all resources of a kind until the signal aborts. A watch that ends is started anew with backoff, and what
 * went away in between is removed then.
 */
export async function follow<S extends Message>(
  kind: Kind<S>,
  follower: Follower<S>,
  { state, clock, log, signal }: { state: State; clock: Clock; log: Logger; signal: AbortSignal },
): Promise<void> {
  const known = new Set<string>();
  for (let attempt = 0; !signal.aborted; attempt++) {
    const seen = new Set<string>();
    try {
      for await (const event of state.watch(kind, { from: "bootstrap", signal })) {
        if (event.kind === "bootstrapped") {
          for (const id of known) {
            if (seen.has(id)) continue;
            known.delete(id);
            follower.remove(id);
          }
          attempt = 0;
          follower.ready();
          continue;
        }
        const { id } = event.resource.metadata;
        if (event.kind === "destroyed") {
          known.delete(id);
          follower.remove(id);
        } else {
          known.add(id);
          seen.add(id);
          follower.put(event.resource);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ kind: kind.type, code: codeOf(error), error: messageOf(error) }, "watch broke, starting it anew");
    }
    if (signal.aborted) return;
    await sleep(backoffDelay(attempt), clock, signal).catch(() => {});
  }
}
