import { randomUUID } from "node:crypto";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";

/** Any Kubernetes object. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    generation?: number;
    generateName?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    finalizers?: string[];
    ownerReferences?: { uid: string; kind: string; name: string; controller?: boolean }[];
    managedFields?: unknown[];
    [key: string]: unknown;
  };
  [key: string]: unknown;
}

/** A change of an object, in order of `version`. */
export interface ObjectEvent {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  /** `group/plural` */
  readonly resource: string;
  readonly object: KubeObject;
  readonly old?: KubeObject;
}

/** Objects as plain data. */
export interface SavedObjects {
  readonly version: number;
  readonly objects: readonly { readonly resource: string; readonly object: KubeObject }[];
}

const historyLength = 2000;

/** The content of an emulated cluster's etcd. Objects are frozen by convention: change a copy. */
export class KubeObjects {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #history: ObjectEvent[] = [];
  readonly #listeners = new Set<(event: ObjectEvent) => void>();
  readonly #clock: Clock;
  readonly #wrote: () => void;
  #version = 100;

  constructor(clock: Clock, wrote: () => void) {
    this.#clock = clock;
    this.#wrote = wrote;
  }
  get version(): number {
    return this.#version;
  }
  get(resource: string, namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(resource)?.get(`${namespace}/${name}`);
  }
  /** All of a resource, of one namespace unless that is "". */
  list(resource: string, namespace = ""): KubeObject[] {
    const all = [...(this.#objects.get(resource)?.entries() ?? [])]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object);
    return namespace ? all.filter((object) => object.metadata.namespace === namespace) : all;
  }
  /** Stores a new object. Throws `already_exists`. */
  create(resource: string, object: KubeObject): KubeObject {
    const { deletionTimestamp: _, ...metadata } = object.metadata;
    const kind = this.#objects.get(resource) ?? new Map<string, KubeObject>();
    this.#objects.set(resource, kind);
    const key = `${metadata.namespace ?? ""}/${metadata.name}`;
    if (kind.has(key))
      throw new IchorError("already_exists", `${resource.split("/")[1]} "${metadata.name}" already exists`);
    const stored: KubeObject = {
      ...object,
      metadata: {
        ...metadata,
        uid: randomUUID(),
        resourceVersion: String(++this.#version),
        creationTimestamp: new Date(this.#clock.now()).toISOString().replace(/\.\d+/, ""),
        generation: 1,
      },
    };
    kind.set(key, stored);
    this.#tell({ version: this.#version, type: "ADDED", resource, object: stored });
    return stored;
  }
  /** Replaces an object; without a difference nothing happens. Throws `not_found`, `aborted` for another resourceVersion. */
  update(resource: string, object: KubeObject): KubeObject {
    const { deletionTimestamp: _, ...metadata } = object.metadata;
    const key = `${metadata.namespace ?? ""}/${metadata.name}`;
    const old = this.#objects.get(resource)?.get(key);
    if (!old) throw new IchorError("not_found", `${resource.split("/")[1]} "${metadata.name}" not found`);
    if (metadata.resourceVersion && metadata.resourceVersion !== old.metadata.resourceVersion)
      throw new IchorError(
        "aborted",
        `Operation cannot be fulfilled on ${resource.split("/")[1]} "${metadata.name}": the object has been modified; please apply your changes to the latest version and try again`,
      );
    const changed = JSON.stringify(object.spec) !== JSON.stringify(old.spec);
    const next: KubeObject = {
      ...object,
      metadata: {
        ...metadata,
        uid: old.metadata.uid!,
        creationTimestamp: old.metadata.creationTimestamp!,
        generation: (old.metadata.generation ?? 1) + (changed ? 1 : 0),
        resourceVersion: old.metadata.resourceVersion!,
        ...(old.metadata.deletionTimestamp ? { deletionTimestamp: old.metadata.deletionTimestamp } : {}),
      },
    };
    if (JSON.stringify(next) === JSON.stringify(old)) return old;
    next.metadata.resourceVersion = String(++this.#version);
    if (next.metadata.deletionTimestamp && !next.metadata.finalizers?.length) {
      this.#drop(resource, key, next);
      return next;
    }
    this.#objects.get(resource)?.set(key, next);
    this.#tell({ version: this.#version, type: "MODIFIED", resource, object: next, old });
    return next;
  }
  /** Deletes an object, or marks it while finalizers hold it. Throws `not_found`. */
  delete(resource: string, namespace: string, name: string): KubeObject {
    const key = `${namespace}/${name}`;
    const old = this.#objects.get(resource)?.get(key);
    if (!old) throw new IchorError("not_found", `${resource.split("/")[1]} "${name}" not found`);
    const marked: KubeObject = {
      ...old,
      metadata: {
        ...old.metadata,
        deletionTimestamp: new Date(this.#clock.now()).toISOString().replace(/\.\d+/, ""),
        resourceVersion: String(++this.#version),
      },
    };
    if (old.metadata.finalizers?.length) {
      if (old.metadata.deletionTimestamp) return old;
      this.#objects.get(resource)?.set(key, marked);
      this.#tell({ version: this.#version, type: "MODIFIED", resource, object: marked, old });
      return marked;
    }
    this.#drop(resource, key, marked);
    return marked;
  }
  /** Forgets all: no etcd holds it any longer. Nobody is told, for nobody can ask. */
  clear(): void {
    if (this.#objects.size === 0) return;
    this.#objects.clear();
    this.#history.length = 0;
    this.#wrote();
  }
  /** Events after a version, or undefined when they are no longer all known. */
  since(version: number): ObjectEvent[] | undefined {
    const first = this.#history[0]?.version ?? this.#version + 1;
    if (version + 1 < first && version < this.#version) return undefined;
    return this.#history.filter((event) => event.version > version);
  }
  subscribe(listener: (event: ObjectEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  save(): SavedObjects {
    return {
      version: this.#version,
      objects: [...this.#objects].flatMap(([resource, kind]) =>
        [...kind.values()].map((object) => ({ resource, object })),
      ),
    };
  }
  load(saved: SavedObjects): void {
    this.#version = saved.version;
    for (const { resource, object } of saved.objects) {
      const kind = this.#objects.get(resource) ?? new Map<string, KubeObject>();
      this.#objects.set(resource, kind);
      kind.set(`${object.metadata.namespace ?? ""}/${object.metadata.name}`, object);
    }
  }

  #drop(resource: string, key: string, object: KubeObject): void {
    this.#objects.get(resource)?.delete(key);
    this.#tell({ version: this.#version, type: "DELETED", resource, object });
    const { uid } = object.metadata;
    for (const [other, kind] of [...this.#objects]) {
      for (const child of [...kind.values()]) {
        if (child.metadata.ownerReferences?.some((owner) => owner.uid === uid))
          this.delete(other, child.metadata.namespace ?? "", child.metadata.name);
      }
    }
    if (resource === "/namespaces") {
      for (const [other, kind] of [...this.#objects])
        for (const child of [...kind.values()])
          if (child.metadata.namespace === object.metadata.name)
            this.delete(other, object.metadata.name, child.metadata.name);
    }
  }
  #tell(event: ObjectEvent): void {
    this.#history.push(event);
    if (this.#history.length > historyLength) this.#history.shift();
    this.#wrote();
    for (const listener of [...this.#listeners]) listener(event);
  }
}
