import type { Message } from "@bufbuild/protobuf";

/** `running` until somebody wants it gone; `tearingDown` until its last finalizer is removed. Never goes back. */
export type Phase = "running" | "tearingDown";

/** Names one resource. */
export interface Key {
  readonly namespace: string;
  readonly type: string;
  readonly id: string;
}

/** The envelope of every resource (COSI's). Treat as immutable; stores hand out shared objects. */
export interface Metadata extends Key {
  /** Counts up by one with each write; 1 after creation, 0 before. */
  readonly version: number;
  readonly phase: Phase;
  /** Name of the controller that alone may write it; empty for what users own. */
  readonly owner: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Who must finish before it may be destroyed. A set, in order of addition. */
  readonly finalizers: readonly string[];
  /** Milliseconds since the Unix epoch. */
  readonly created: number;
  readonly updated: number;
}

/** A resource with its spec decoded. */
export interface Resource<S extends Message = Message> {
  readonly metadata: Metadata;
  readonly spec: S;
}

/** Metadata of a resource not yet stored. */
export function newMetadata(key: Key, extra: Partial<Omit<Metadata, keyof Key>> = {}): Metadata {
  return {
    namespace: key.namespace,
    type: key.type,
    id: key.id,
    version: 0,
    phase: "running",
    owner: "",
    labels: {},
    annotations: {},
    finalizers: [],
    created: 0,
    updated: 0,
    ...extra,
  };
}

/** `namespace/type/id`: for messages and maps. */
export function keyText(key: Key): string {
  return `${key.namespace}/${key.type}/${key.id}`;
}
