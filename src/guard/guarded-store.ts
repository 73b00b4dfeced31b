import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { annotation, label } from "#kinds/labels.ts";
import { IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { Query } from "#resource/query.ts";
import { type Key, type Metadata, newMetadata, type Resource } from "#resource/resource.ts";
import { decode, State } from "#store/state.ts";
import type { Bookmark, Scope, Store, Stored, StoreEvent, WatchOptions } from "#store/store.ts";
import { checkAccess, type Verb } from "./access.ts";
import type { Caller } from "./caller.ts";

/** Messages of what is wrong with a resource that a user writes. */
export type Validate = (kind: AnyKind, resource: Resource) => readonly string[];

/** What the guard knows besides the store. */
export interface GuardOptions {
  readonly log: Logger;
  readonly kindOf: (type: string) => AnyKind | undefined;
  /** Rules that need more than the kind's own `validate` knows. */
  readonly validate: Validate;
}

/** Bounds of what a user writes. */
const longestId = 253;
const mostLabels = 256;
const longestLabel = 4096;
const largestSpec = 4 << 20;

/**
 * The store as one caller may use it: every call is checked against the declaration of the kind, what is written against the rules, and
 * all of it is written as a user (owner "").
 */
export class GuardedStore {
  readonly #store: Store;
  readonly #caller: Caller | undefined;
  readonly #options: GuardOptions;

  constructor(store: Store, caller: Caller | undefined, options: GuardOptions) {
    this.#store = store;
    this.#caller = caller;
    this.#options = options;
  }

  /** Throws `not_found`. */
  async get(key: Key): Promise<Stored> {
    this.#check(key, "get");
    const found = await this.#store.get(key);
    if (!found) throw notFound(key);
    return found;
  }

  async list(scope: Scope, query?: Query): Promise<{ resources: Stored[]; bookmark: Bookmark }> {
    this.#check(scope, "list");
    return this.#store.list(scope, query);
  }

  /** The place is taken at the call. */
  watch(scope: Scope, options: WatchOptions): AsyncIterable<StoreEvent> {
    this.#check(scope, "watch");
    return this.#store.watch(scope, options);
  }

  async create(resource: Stored): Promise<Stored> {
    const { metadata } = resource;
    const kind = this.#check(metadata, "create");
    refuse(metadata.owner !== "", "permission_denied", "users cannot create what the plane owns");
    refuse(metadata.phase !== "running", "invalid_argument", "a new resource is running");
    refuse(metadata.finalizers.length > 0, "permission_denied", "finalizers are set by the plane alone");
    this.#checkForm(kind, resource);
    await this.#checkLock(kind, metadata);
    const fresh = { ...newMetadata(metadata), labels: metadata.labels, annotations: metadata.annotations };
    const created = await this.#store.create({ metadata: fresh, spec: resource.spec });
    this.#tell(kind, "create", metadata.id);
    return created;
  }

  /**
   * Updates; a phase that goes to tearingDown is a teardown, as older clients ask for one, and changes nothing else. Besides the errors of
   * the store: `permission_denied` when finalizers change, `invalid_argument` with all that is wrong with the resource.
   */
  async update(resource: Stored, expectedPhase: Metadata["phase"] = "running"): Promise<Stored> {
    const { metadata } = resource;
    const verb = metadata.phase === "tearingDown" ? "teardown" : "update";
    const kind = this.#check(metadata, verb);
    const current = await this.#store.get(metadata);
    if (!current) throw notFound(metadata);
    refuse(current.metadata.owner !== "", "permission_denied", `${named(metadata)} belongs to the plane`);
    // The version may be that of a write on its way to the disk, which nobody has seen: what it holds cannot be judged.
    if (current.metadata.version !== metadata.version)
      throw new IchorError(
        "failed_precondition",
        `${named(metadata)} was changed meanwhile (version ${current.metadata.version}, expected ${metadata.version})`,
      );
    refuse(
      metadata.finalizers.join("\n") !== current.metadata.finalizers.join("\n"),
      "permission_denied",
      "finalizers are set by the plane alone",
    );
    refuse(
      current.metadata.phase === "tearingDown" && verb === "update",
      "invalid_argument",
      `${named(metadata)} is being torn down; that cannot be taken back`,
    );
    checkSystem(current.metadata);
    if (verb === "update") this.#checkForm(kind, resource);
    const next: Stored =
      verb === "update" ? resource : { ...current, metadata: { ...current.metadata, phase: metadata.phase } };
    await this.#checkLock(kind, next.metadata, current.metadata);
    const written = await this.#store.update(next, { owner: "", expectedPhase });
    this.#tell(kind, verb, metadata.id);
    return written;
  }

  /** True when nothing holds it any more. */
  async teardown(key: Key): Promise<boolean> {
    const { kind, owner } = await this.#forget(key, "teardown");
    const ready = await new State(this.#store).teardown(key, owner);
    this.#tell(kind, "teardown", key.id);
    return ready;
  }

  async destroy(key: Key): Promise<void> {
    const { kind, owner } = await this.#forget(key, "destroy");
    await this.#store.destroy(key, { owner });
    this.#tell(kind, "destroy", key.id);
  }

  /** Checks that the caller may let a resource go; answers as whom. */
  async #forget(key: Key, verb: "teardown" | "destroy"): Promise<{ kind: AnyKind; owner: string }> {
    const kind = this.#check(key, verb);
    const current = await this.#store.get(key);
    if (!current) throw notFound(key);
    const { owner } = current.metadata;
    refuse(owner !== "" && !kind.userMayDestroy, "permission_denied", `${named(key)} belongs to the plane`);
    checkSystem(current.metadata);
    await this.#checkLock(kind, current.metadata, current.metadata);
    return { kind, owner };
  }

  #check({ type, namespace }: Scope, verb: Verb): AnyKind {
    const kind = this.#options.kindOf(type);
    if (!this.#caller) throw new IchorError("unauthenticated", "sign in first");
    if (!kind || kind.namespace !== namespace)
      throw new IchorError(
        "not_found",
        kind ? `${type} are in the namespace "${kind.namespace}"` : `there is no type "${type.slice(0, longestId)}"`,
      );
    checkAccess(this.#caller, kind, verb);
    return kind;
  }

  /** What is wrong with a resource, all of it at once. */
  #checkForm(kind: AnyKind, stored: Stored): void {
    const { metadata, spec } = stored;
    const problems: string[] = [];
    if (!isName(metadata.id, longestId))
      problems.push(`the id must have 1 to ${longestId} characters, none of control`);
    for (const [what, map] of [
      ["labels", metadata.labels],
      ["annotations", metadata.annotations],
    ] as const) {
      const entries = Object.entries(map);
      if (entries.length > mostLabels) problems.push(`there are ${entries.length} ${what}; ${mostLabels} are the most`);
      if (entries.some(([key, value]) => !isName(key, longestLabel) || value.length > longestLabel))
        problems.push(`${what} must have a name, and at most ${longestLabel} characters`);
    }
    if (spec.length > largestSpec) problems.push(`the spec has ${spec.length} bytes; ${largestSpec} are the most`);
    if (problems.length === 0) {
      let resource: Resource;
      try {
        resource = decode(kind, stored);
      } catch (cause) {
        throw new IchorError("invalid_argument", `the spec is not that of ${kind.type}`, { cause });
      }
      problems.push(...(kind.validate?.(resource) ?? []), ...this.#options.validate(kind, resource));
    }
    refuse(problems.length > 0, "invalid_argument", `${named(metadata)} is not valid: ${problems.join("; ")}`);
    checkSystem(metadata);
  }

  /** A locked cluster refuses changes to itself and to all that carries its label, but for being unlocked (protocols.md 11.6). */
  async #checkLock(kind: AnyKind, next: Metadata, current?: Metadata): Promise<void> {
    const itself = kind.type === ClusterKind.type;
    const unlocks = itself && !Object.hasOwn(next.annotations, annotation.clusterLocked);
    if (unlocks) return;
    const names = itself ? [next.id] : [next.labels[label.cluster], current?.labels[label.cluster]];
    for (const name of new Set(names)) {
      if (!name) continue;
      const cluster = await this.#store.get(ClusterKind.key(name));
      refuse(
        cluster !== undefined && Object.hasOwn(cluster.metadata.annotations, annotation.clusterLocked),
        "permission_denied",
        `cluster "${name}" is locked: remove its annotation ${annotation.clusterLocked} first`,
      );
    }
  }

  #tell(kind: AnyKind, verb: Verb, id: string): void {
    const { identity, role } = this.#caller ?? {};
    this.#options.log.info(
      { identity, role, verb, type: kind.type, ...(kind.secretId ? {} : { id }) },
      "a user changed a resource",
    );
  }
}

/** System patches are the plane's, whoever owns the kind. */
function checkSystem(metadata: Metadata): void {
  refuse(
    Object.hasOwn(metadata.labels, label.systemPatch),
    "permission_denied",
    `what has the label ${label.systemPatch} is the plane's own`,
  );
}

function isName(text: string, longest: number): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
  return text.length > 0 && text.length <= longest && !/[\x00-\x1f\x7f]/.test(text) && text.trim() === text;
}

function notFound(key: Key): IchorError {
  return new IchorError("not_found", `${named(key)} does not exist`);
}

function named({ type, id }: Pick<Key, "type" | "id">): string {
  return `${type} "${id.slice(0, longestId)}"`;
}

function refuse(when: boolean, code: "permission_denied" | "invalid_argument", message: string): void {
  if (when) throw new IchorError(code, message);
}
