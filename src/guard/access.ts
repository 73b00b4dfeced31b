import { IchorError } from "#lib/errors.ts";
import type { AnyKind } from "#resource/kind.ts";
import { atLeast, type Caller } from "./caller.ts";

/** What can be done to a resource. Tearing down is the first half of destroying. */
export const verbs = ["get", "list", "watch", "create", "update", "teardown", "destroy"] as const;
/** One of {@link verbs}. */
export type Verb = (typeof verbs)[number];

/**
 * Kinds that users own but do not create as resources, and how they make one: an id that is a secret must not be chosen by a person
 * (protocols.md 11.4).
 */
const madeElsewhere: Readonly<Record<string, string>> = {
  "JoinTokens.omni.sidero.dev": "join tokens are made with `ichor token create`, so that nobody can guess them",
};

/** Throws `unauthenticated` without a caller, `permission_denied` with the reason, or returns. */
export function checkAccess(caller: Caller | undefined, kind: AnyKind, verb: Verb): asserts caller is Caller {
  if (!caller) throw new IchorError("unauthenticated", "sign in first");
  const refusal = isRead(verb) ? refuseRead(caller, kind) : refuseWrite(caller, kind, verb);
  if (refusal) throw new IchorError("permission_denied", refusal);
}

function isRead(verb: Verb): boolean {
  return verb === "get" || verb === "list" || verb === "watch";
}

function refuseRead(caller: Caller, kind: AnyKind): string | undefined {
  const least = kind.read ?? "Reader";
  if (least === "nobody") return `${kind.type} hold secrets and are shown to nobody`;
  return atLeast(caller.role, least)
    ? undefined
    : `reading ${kind.type} needs the role ${least}; "${caller.identity}" has ${caller.role}`;
}

function refuseWrite(caller: Caller, kind: AnyKind, verb: Verb): string | undefined {
  // What may not be read may not be written either: a refusal of a write would tell what is there.
  if (kind.read === "nobody") return refuseRead(caller, kind);
  const forgetting = verb === "teardown" || verb === "destroy";
  if (kind.writer === "plane" && !(forgetting && kind.userMayDestroy))
    return `${kind.type} are written by the plane alone`;
  const least = kind.write ?? "Operator";
  if (!atLeast(caller.role, least))
    return `writing ${kind.type} needs the role ${least}; "${caller.identity}" has ${caller.role}`;
  return verb === "create" ? madeElsewhere[kind.type] : undefined;
}
