import assert from "node:assert/strict";
import { test } from "node:test";
import { allKinds } from "#kinds/all.ts";
import { codeOf, type IchorError } from "#lib/errors.ts";
import { type AnyKind, type Role, roles } from "#resource/kind.ts";
import { checkAccess, type Verb, verbs } from "./access.ts";
import { atLeast, readRole } from "./caller.ts";
import { someone } from "./testing.ts";

/** The reason of a refusal; undefined when it is allowed. */
function refusal(role: Role, kind: AnyKind, verb: Verb): string | undefined {
  try {
    checkAccess(someone(role), kind, verb);
    return undefined;
  } catch (error) {
    assert.equal(codeOf(error), "permission_denied");
    return (error as IchorError).message;
  }
}
const may = (role: Role, kind: AnyKind, verb: Verb) => refusal(role, kind, verb) === undefined;
const reads: readonly Verb[] = ["get", "list", "watch"];
const forgets: readonly Verb[] = ["teardown", "destroy"];
const nameOf = ({ type }: AnyKind) => type.split(".")[0];

test("every kind x role x verb is what the kind declares", () => {
  for (const kind of allKinds) {
    for (const role of roles) {
      for (const verb of verbs) {
        const least = reads.includes(verb) ? kind.read : kind.write;
        const byUsers = kind.writer === "users" || (forgets.includes(verb) && kind.userMayDestroy === true);
        const open = kind.read !== "nobody" && (reads.includes(verb) || byUsers);
        // Made with a method of its own, since its id is a secret.
        const elsewhere = verb === "create" && nameOf(kind) === "JoinTokens";
        const expected = open && !elsewhere && atLeast(role, least as Role);
        assert.equal(may(role, kind, verb), expected, `${role} ${verb} ${kind.type}`);
      }
    }
  }
});

test("a higher role may all that a lower one may; None and InfraProvider may nothing; Reader and Auditor write nothing", () => {
  for (const kind of allKinds) {
    for (const verb of verbs) {
      const allowed = roles.map((role) => may(role, kind, verb));
      assert.deepEqual(allowed, [...allowed].sort(), `${kind.type} ${verb}`);
      const writes = !reads.includes(verb);
      for (const [index, role] of roles.entries())
        if (!atLeast(role, writes ? "Operator" : "Reader")) assert.equal(allowed[index], false, `${role} ${kind.type}`);
    }
  }
});

test("what holds keys is shown to nobody and written by nobody, and the answer is the same for all verbs", () => {
  const hidden = allKinds.filter(({ read }) => read === "nobody");
  // The list may grow; a name that goes from it is a leak, unless the kind is gone.
  for (const name of [
    "ClusterMachineConfigPatches",
    "ClusterMachineConfigs",
    "ClusterSecrets",
    "NodeUniqueTokens",
    "PendingMachineStatuses",
    "PlaneKeys",
    "Sessions",
  ])
    assert.ok(
      hidden.some((kind) => nameOf(kind) === name),
      `${name} can be read`,
    );
  for (const kind of hidden) {
    assert.ok(kind.sealed, `${kind.type} is not sealed`);
    const answers = new Set(verbs.map((verb) => refusal("Admin", kind, verb)));
    assert.equal(answers.size, 1, `${kind.type}: ${[...answers].join(" | ")}`);
  }
});

test("a refusal says what is needed and what the caller has; nobody at all is told to sign in", () => {
  const kind = allKinds.find((known) => nameOf(known) === "Clusters")!;
  const tokens = allKinds.find((known) => nameOf(known) === "JoinTokens")!;
  assert.equal(
    refusal("None", kind, "get"),
    'reading Clusters.omni.sidero.dev needs the role Reader; "none@example" has None',
  );
  assert.equal(
    refusal("Reader", kind, "create"),
    'writing Clusters.omni.sidero.dev needs the role Operator; "reader@example" has Reader',
  );
  assert.match(refusal("Admin", tokens, "create") ?? "", /made with `ichor token create`/);
  for (const verb of verbs)
    assert.throws(
      () => checkAccess(undefined, kind, verb),
      (error) => codeOf(error) === "unauthenticated",
    );
  assert.throws(() => readRole("Root"), /there is no role "Root"; there are None, InfraProvider, Reader/);
  assert.equal(readRole("Reader"), "Reader");
});
