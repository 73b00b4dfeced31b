import type { KubeObject, KubeObjects, ObjectEvent } from "./objects.ts";
import type { Selector } from "./selectors.ts";
import { KubeError } from "./status.ts";

/** How to watch. */
export interface WatchOptions {
  readonly key: string;
  readonly namespace: string;
  readonly selects: Selector;
  /** From after this version; undefined or 0: what exists first. */
  readonly from: number | undefined;
  /** `sendInitialEvents`: what exists, then a bookmark that says so. */
  readonly initial: boolean;
  readonly bookmarks: boolean;
  /** Form of an object on the wire. */
  readonly form: (object: KubeObject, version: string) => object;
  readonly bookmark: (version: string, annotations?: Record<string, string>) => object;
  readonly write: (event: object) => void;
}

/** Writes events until the answer is called. Throws 410 when `from` is too old. */
export function startWatch(objects: KubeObjects, options: WatchOptions): () => void {
  const { key, namespace, selects, write, form } = options;
  const inScope = (object: KubeObject) => namespace === "" || object.metadata.namespace === namespace;
  const tell = (event: ObjectEvent) => {
    if (event.resource !== key || !inScope(event.object)) return;
    const now = event.type !== "DELETED" && selects(event.object);
    const before = event.type === "DELETED" ? selects(event.object) : event.old !== undefined && selects(event.old);
    const type = now ? (before ? "MODIFIED" : "ADDED") : before ? "DELETED" : undefined;
    if (type) write({ type, object: form(event.object, String(event.version)) });
  };
  const start = options.from;
  if (start === undefined || start === 0 || options.initial) {
    for (const object of objects.list(key, namespace))
      if (selects(object)) write({ type: "ADDED", object: form(object, object.metadata.resourceVersion ?? "") });
    if (options.initial)
      write({
        type: "BOOKMARK",
        object: options.bookmark(String(objects.version), { "k8s.io/initial-events-end": "true" }),
      });
  } else {
    const missed = objects.since(start);
    if (!missed) throw new KubeError(410, "Expired", `too old resource version: ${start} (${objects.version})`);
    for (const event of missed) tell(event);
  }
  return objects.subscribe(tell);
}
