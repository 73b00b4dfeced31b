import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { useSyncExternalStore } from "react";
import { EventType } from "#gen/cosi/resource/resource_pb.ts";
import { fromWire } from "#kinds/wire.ts";
import type { AnyKind, Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import { inWords, state } from "./api.ts";
import { paths } from "./paths.ts";

/** What a page sees of a kind: all its resources, kept live. */
export interface Live<S extends Message> {
  readonly items: ReadonlyMap<string, Resource<S>>;
  /** `loading` until all that exists has come; `stale` while the connection is down: items are the last known. */
  readonly status: "loading" | "live" | "stale";
  /** Why nothing comes, in words; the watch goes on trying. */
  readonly error?: string;
}

const watches = new Map<string, Watch>();

/** The one way to read resources: every component that asks for a kind shares one stream. */
export function useWatch<S extends Message>(kind: Kind<S>): Live<S> {
  let watch = watches.get(kind.type);
  if (!watch) {
    watch = new Watch(kind);
    watches.set(kind.type, watch);
  }
  return useSyncExternalStore(watch.subscribe, watch.snapshot) as Live<S>;
}

/** One stream of a kind, open while somebody looks. */
class Watch {
  readonly #kind: AnyKind;
  readonly #listeners = new Set<() => void>();
  #live: Live<Message> = { items: new Map(), status: "loading" };
  #next = new Map<string, Resource>();
  #stop: AbortController | undefined;
  #frame = 0;

  constructor(kind: AnyKind) {
    this.#kind = kind;
  }

  readonly snapshot = (): Live<Message> => this.#live;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (!this.#stop) void this.#run();
    return () => {
      this.#listeners.delete(listener);
      // A page change takes its listeners away and brings the next page's: the stream outlives that.
      queueMicrotask(() => {
        if (this.#listeners.size > 0) return;
        this.#stop?.abort();
        this.#stop = undefined;
      });
    };
  };

  async #run(): Promise<void> {
    const stop = new AbortController();
    this.#stop = stop;
    for (let failures = 0; ; failures++) {
      let error = "The plane ended the connection";
      try {
        await this.#follow(stop.signal, () => {
          failures = 0;
        });
      } catch (failure) {
        if (ConnectError.from(failure).code === Code.Unauthenticated && !stop.signal.aborted) {
          location.assign(paths.signinThen(location.pathname + location.search));
          return;
        }
        error = inWords(failure);
      }
      if (stop.signal.aborted) return;
      // What was to be drawn next is older than this.
      cancelAnimationFrame(this.#frame);
      this.#frame = 0;
      this.#publish({ ...this.#live, status: this.#live.status === "loading" ? "loading" : "stale", error });
      await pause(Math.min(5000, 250 * 2 ** failures), stop.signal);
    }
  }

  async #follow(signal: AbortSignal, onLive: () => void): Promise<void> {
    const { namespace, type } = this.#kind;
    this.#next = new Map();
    let bootstrapped = false;
    for await (const { event } of state.watch(
      { namespace, type, options: { bootstrapContents: true }, apiVersion: 1 },
      { signal },
    )) {
      for (const item of event) {
        if (item.eventType === EventType.ERRORED)
          throw new ConnectError(item.error ?? "the watch failed", Code.Unavailable);
        if (item.eventType === EventType.BOOTSTRAPPED) bootstrapped = true;
        else if (item.resource) {
          const resource = fromWire(this.#kind, item.resource);
          if (item.eventType === EventType.DESTROYED) this.#next.delete(resource.metadata.id);
          else this.#next.set(resource.metadata.id, resource);
        }
      }
      if (!bootstrapped) continue;
      onLive();
      // Thousands of events a second become one picture a frame.
      this.#frame ||= requestAnimationFrame(() => {
        this.#frame = 0;
        this.#publish({ items: new Map(this.#next), status: "live" });
      });
    }
  }

  #publish(live: Live<Message>): void {
    this.#live = live;
    for (const listener of this.#listeners) listener();
  }
}

/** Waits before the next try; over at once when nobody looks any more or the browser is on the network again. */
function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    const now = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", now, { once: true });
    addEventListener("online", now, { once: true });
  });
}
