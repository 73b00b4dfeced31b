import type { Message } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import type { Key, Metadata, Resource } from "./resource.ts";

/** Roles in order: each may do what the one before may. */
export const roles = ["None", "InfraProvider", "Reader", "Auditor", "Operator", "Admin"] as const;
/** A user's role. */
export type Role = (typeof roles)[number];

/** A column of a table of resources: `path` is a dotted JSON path into the spec, or `metadata.…`. */
export interface Column {
  readonly name: string;
  readonly path: string;
}

/** What is declared of a kind; see {@link defineKind}. */
export interface KindDefinition<S extends Message> {
  /** Public name, `Clusters.omni.sidero.dev`; ours end in `.ichor.dev`. */
  readonly type: string;
  readonly namespace: string;
  /** Schema of the spec message. */
  readonly spec: GenMessage<S>;
  /** Who may write: `users` (through the API, with the roles below) or `plane` (controllers only). */
  readonly writer: "users" | "plane";
  /** Least role that may read; default Reader. `"nobody"`: never leaves the plane. */
  readonly read?: Role | "nobody";
  /** Least role that may write where the writer is `users`; default Operator. */
  readonly write?: Role;
  /** True when the spec holds secrets: sealed at rest, never in logs or diffs. Implies read "nobody". */
  readonly secret?: boolean;
  /** Sealed at rest like a secret, but shown to those who may read it (tokens, patches). Default: as `secret`. */
  readonly sealed?: boolean;
  /** True when ids are secrets themselves (join tokens): shown only to those who may read the kind, never in logs and statuses. */
  readonly secretId?: boolean;
  /** What must exist before it, and goes before it on deletion: the kind named by this label. */
  readonly parent?: { readonly label: string; readonly type: string };
  readonly aliases?: readonly string[];
  readonly columns?: readonly Column[];
  /** Users may destroy it although the plane writes it (Links, PendingMachines: destroying is forgetting). */
  readonly userMayDestroy?: boolean;
  /** Messages of what is wrong with a resource that a user writes; pure, so that every edge can ask. */
  readonly validate?: (resource: Resource<S>) => readonly string[];
}

/** A kind of resource. */
export interface Kind<S extends Message = Message> extends KindDefinition<S> {
  /** The key of one resource of the kind. */
  key(id: string): Key;
}

/** Any kind, where the message type does not matter. */
// biome-ignore lint/suspicious/noExplicitAny: specs are invariant through `validate`; a registry needs the escape.
export type AnyKind = Kind<any>;

/** Declares a kind, once; all lists of kinds are derived from these. */
export function defineKind<S extends Message>(definition: KindDefinition<S>): Kind<S> {
  const secret = definition.secret ?? false;
  return {
    ...definition,
    read: secret ? "nobody" : (definition.read ?? "Reader"),
    sealed: definition.sealed ?? secret,
    write: definition.write ?? "Operator",
    key: (id) => ({ namespace: definition.namespace, type: definition.type, id }),
  };
}

/** Whether metadata names a resource of the kind. */
export function isKind(kind: AnyKind, metadata: Pick<Metadata, "namespace" | "type">): boolean {
  return kind.type === metadata.type && kind.namespace === metadata.namespace;
}
