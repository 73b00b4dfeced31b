import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { IchorError } from "#lib/errors.ts";
import { type ConfigDocument, documentId, parseConfig, printConfig } from "./document.ts";
import { mergeDocuments } from "./merge.ts";
import { applyPatches } from "./patch.ts";
import { checkPatch } from "./patch-check.ts";

// What holds for every patch. That the merge is Talos' own is measured against stock talosctl in test/interop.

const documents = (text: string) => parseConfig(text).map(({ document }) => document);
const apply = (config: string, ...patches: string[]) =>
  applyPatches(
    documents(config),
    patches.map((text, index) => ({ id: `p${index}`, text })),
  );

/** Keys that mean something to every object of the language. */
const odd = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf"];
const key = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("a", "b", "c", "d") },
  { weight: 1, arbitrary: fc.constantFrom(...odd) },
);
const scalar = fc.oneof(fc.constantFrom("x", "y"), fc.integer({ min: 1, max: 9 }), fc.boolean());
type Tree = string | number | boolean | Map<string, Tree>;
const tree: fc.Arbitrary<Map<string, Tree>> = fc.letrec<{ map: Map<string, Tree>; node: Tree }>((tie) => ({
  map: fc
    .uniqueArray(fc.tuple(key, tie("node")), { selector: ([name]) => name, maxLength: 4 })
    .map((entries) => new Map(entries)),
  node: fc.oneof({ depthSize: "small" }, scalar, tie("map")),
})).map;

const plain = (value: Tree): unknown =>
  value instanceof Map ? Object.fromEntries([...value].map(([name, item]) => [name, plain(item)])) : value;
/** The merge of maps and scalars, over Maps; undefined where a map meets a scalar. */
function model(left: Map<string, Tree>, right: Map<string, Tree>): Map<string, Tree> | undefined {
  const result = new Map(left);
  for (const [name, value] of right) {
    const before = result.get(name);
    if (before === undefined) result.set(name, value);
    else if (before instanceof Map !== value instanceof Map) return undefined;
    else if (before instanceof Map && value instanceof Map) {
      const merged = model(before, value);
      if (!merged) return undefined;
      result.set(name, merged);
    } else result.set(name, value);
  }
  return result;
}

test("maps and scalars merge as a plain model does, whatever the keys; nothing given is changed, nothing shared is reached", () => {
  const shared = Object.getOwnPropertyNames(Object.prototype).sort();
  fc.assert(
    fc.property(tree, tree, (left, right) => {
      const config = documents(stringify({ machine: { sysctls: plain(left) } }));
      const patch = documents(stringify({ machine: { sysctls: plain(right) } }));
      const before = structuredClone([config, patch]);
      const expected = model(left, right);
      try {
        const merged = mergeDocuments(config, patch);
        assert.ok(expected, "a mapping took the place of a value");
        // Written and read again, as it is sent.
        const again = documents(printConfig(merged));
        const holder = (from: ConfigDocument[]) => (from[0]!.machine as { sysctls: unknown }).sysctls;
        assert.deepEqual(holder(merged), plain(expected));
        assert.deepEqual(holder(again), plain(expected));
        assert.deepEqual(mergeDocuments(merged, patch), merged, "a second time changes nothing");
      } catch (error) {
        if (!(error instanceof IchorError)) throw error;
        assert.equal(error.code, "invalid_argument");
        assert.match(error.message, /^machine\.sysctls.*: the patch has a/);
        assert.equal(expected, undefined);
      }
      assert.deepEqual([config, patch], before);
      assert.deepEqual(Object.getOwnPropertyNames(Object.prototype).sort(), shared);
    }),
    { numRuns: 200 },
  );
});

test("a patch cannot reach what all objects of the plane share", () => {
  for (const name of odd) {
    const patch = `machine:\n  sysctls:\n    ${name}:\n      polluted: "yes"\n`;
    const [main] = apply("machine: {sysctls: {a: b}}", patch, patch);
    assert.equal(({} as { polluted?: string }).polluted, undefined);
    assert.equal((Object as { polluted?: string }).polluted, undefined);
    const { sysctls } = (main as { machine: { sysctls: object } }).machine;
    assert.deepEqual(Object.getOwnPropertyDescriptor(sysctls, name)?.value, { polluted: "yes" });
  }
});

test("documents: matched by kind and name, new ones appended, deleted ones gone, order kept", () => {
  const config =
    "machine: {type: worker}\n---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: a\n---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: b\n";
  const doc = (name: string, more = "") => `apiVersion: v1alpha1\nkind: VolumeConfig\nname: ${name}\n${more}`;
  const ids = (result: ConfigDocument[]) => result.map(documentId);
  assert.deepEqual(ids(apply(config, doc("c"))), [
    "v1alpha1",
    "v1alpha1/VolumeConfig/a",
    "v1alpha1/VolumeConfig/b",
    "v1alpha1/VolumeConfig/c",
  ]);
  assert.deepEqual(ids(apply(config, doc("a", "$patch: delete\n"))), ["v1alpha1", "v1alpha1/VolumeConfig/b"]);
  assert.deepEqual(ids(apply(config, `${doc("a", "$patch: delete\n")}---\n${doc("c")}`)), [
    "v1alpha1",
    "v1alpha1/VolumeConfig/b",
    "v1alpha1/VolumeConfig/c",
  ]);
  assert.throws(() => apply(config, doc("z", "$patch: delete\n")), {
    code: "invalid_argument",
    message: 'config patch "p0": $patch: delete names v1alpha1/VolumeConfig/z, which is not in the configuration',
  });
  assert.deepEqual(apply(config), documents(config), "without patches nothing changes");
});

test("several patches act in order, each on what the one before left", () => {
  const set = (value: number) => `machine: {sysctls: {a: "${value}"}}`;
  fc.assert(
    fc.property(fc.array(fc.nat(99), { minLength: 1, maxLength: 6 }), (values) => {
      const [main] = apply("machine: {}", ...values.map(set)) as [{ machine: { sysctls: { a: string } } }];
      assert.equal(main.machine.sysctls.a, String(values.at(-1)));
    }),
  );
  const lists = apply("machine: {certSANs: [a]}", "machine: {certSANs: [b]}", "machine: {certSANs: [c, a]}");
  assert.deepEqual(lists, [{ machine: { certSANs: ["a", "b", "c", "a"] } }]);
});

test("what is wrong in a patch is told with its name, line and column, without its values", () => {
  const fail = (text: string) => {
    try {
      apply("machine: {}", "machine: {sysctls: {}}", text);
    } catch (error) {
      assert.ok(error instanceof IchorError);
      assert.equal(error.code, "invalid_argument");
      return error.message;
    }
    return "";
  };
  assert.match(fail("machine:\n  sysctls: {a: 1\n"), /^config patch "p1": line \d+, column \d+: /);
  assert.match(fail("machine:\n  a: 1\n  a: 2\n"), /^config patch "p1": line 3, column 3: Map keys must be unique/);
  assert.match(fail("a: b\n---\n- x\n"), /^config patch "p1": line 3: a configuration document is a mapping/);
  assert.match(fail("- op: add\n  path: /a\n  value: hunter2\n"), /^config patch "p1": JSON patches .* cannot be used/);
  assert.match(fail('[{"op": "add"}]'), /JSON patches/);
  assert.match(
    fail("machine: {sysctls: [hunter2]}"),
    /^config patch "p1": machine\.sysctls: the patch has a list where/,
  );
  assert.match(fail("a: &x [*x]"), /^config patch "p1": line 1: /);
  const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${"bcdefgh"
    .split("")
    .map((letter, index) => `${letter}: &${letter} [${Array(9).fill(`*${"abcdefg"[index]}`)}]`)
    .join("\n")}\n`;
  assert.match(fail(bomb), /aliases/);
  assert.match(fail("machine:\n\tsysctls: hunter2\n"), /line 2, column 1/);
  for (const text of ["machine: {sysctls: [hunter2]}", "- op: add\n  value: hunter2\n"])
    assert.ok(!fail(text).includes("hunter2"));
});

test("any text as a patch changes the configuration or is refused in our own words, and so says the check", () => {
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.constantFrom(
      "[",
      "{",
      "- ",
      "? ",
      "a: &x\n  b: *x",
      "!!binary x",
      "%YAML 9\n---\na: 1",
      "---\n---\n",
      "[".repeat(3000),
      "{a: ".repeat(1000),
    ),
    fc
      .array(
        fc.constantFrom(
          "machine:",
          "  a: 1",
          "- x",
          "---",
          "$patch: delete",
          "  $patch: delete",
          "kind: A",
          "apiVersion: v1alpha1",
          "name: n",
          "\t",
          "",
        ),
        { maxLength: 8 },
      )
      .map((lines) => lines.join("\n")),
  );
  fc.assert(
    fc.property(text, (patch) => {
      for (const problem of checkPatch(patch)) {
        assert.equal(typeof problem.message, "string");
        if (problem.line !== undefined) assert.ok(problem.line >= 1 && problem.line <= patch.split("\n").length + 1);
      }
      try {
        for (const document of apply("machine: {a: {b: 1}, list: [1]}\n", patch))
          assert.equal(typeof document, "object");
      } catch (error) {
        assert.ok(error instanceof IchorError && error.code === "invalid_argument", String(error));
        assert.match(error.message, /^config patch "p0": /);
      }
    }),
    { numRuns: 200 },
  );
});

test("the check: what only the plane may set, with its line and what to do", () => {
  const problems = checkPatch(
    [
      "machine:",
      "  token: x",
      "  features:",
      "    kubernetesTalosAPIAccess:",
      "      allowedRoles: [os:admin]",
      "cluster:",
      "  controlPlane:",
      "    endpoint: https://x",
      "typo: 1",
      "---",
      "apiVersion: v1alpha1",
      "kind: KubeClusterConfig",
      "---",
      "apiVersion: v1",
      "kind: VolumeConfig",
      "---",
      "apiVersion: v1alpha1",
    ].join("\n"),
  );
  assert.deepEqual(
    problems.map(({ line, message }) => `${line}: ${message}`).sort(),
    [
      "2: machine.token is set by the plane",
      "5: os:admin may not be given to workloads",
      "8: cluster.controlPlane.endpoint is set by the plane",
      '9: there is no field "typo" at the top of a configuration',
      "11: documents of kind KubeClusterConfig are the plane's own",
      "14: apiVersion of VolumeConfig must be v1alpha1",
      "17: a document with apiVersion needs a kind",
    ].sort(),
  );
  assert.deepEqual(
    checkPatch("machine: {sysctls: {a: b}}\n---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: x\n"),
    [],
  );
  assert.equal(checkPatch("")[0]?.message, "the patch is empty");
  assert.equal(checkPatch("# only a comment\n")[0]?.message, "the patch is empty");
});
