import assert from "node:assert/strict";
import { test } from "node:test";
import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { parse } from "yaml";
import { ClusterSpecSchema, MachineSetSpecSchema } from "#gen/specs/specs_pb.ts";
import { anyMessage, anyText } from "#guard/testing.ts";
import { allKinds } from "#kinds/all.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { codeOf } from "#lib/errors.ts";
import { fromYaml, toYaml } from "./yaml-spec.ts";

for (const kind of allKinds) {
  test(`${kind.type}: a spec comes back whole from its YAML`, () => {
    fc.assert(
      fc.property(anyMessage(kind.spec), (spec) => {
        const yaml = toYaml(kind, spec);
        const back = fromBinary(kind.spec, fromYaml(kind, yaml));
        assert.ok(equals(kind.spec, back, fromBinary(kind.spec, toBinary(kind.spec, spec))), yaml);
      }),
      { numRuns: 30 },
    );
  });
}

test("fields are named and written as Go's encoder does", () => {
  const spec = create(ClusterSpecSchema, {
    talosVersion: "1.13.9",
    kubernetesVersion: "1.36.3",
    features: { diskEncryption: true },
  });
  const value = parse(toYaml(ClusterKind, spec)) as Record<string, unknown>;
  assert.equal(value.talosversion, "1.13.9");
  assert.equal(value.kubernetesversion, "1.36.3");
  assert.deepEqual((value.features as Record<string, unknown>).diskencryption, true);
  assert.equal(value.backupconfiguration, null);
  const sets = parse(toYaml(MachineSetKind, create(MachineSetSpecSchema, { updateStrategy: 1 }))) as Record<
    string,
    unknown
  >;
  assert.equal(sets.updatestrategy, 1);
});

test("what is wrong is named with its place", () => {
  const wrong: [string, RegExp][] = [
    ["talosversion: [a", /the YAML spec cannot be read/],
    ["a: 1\na: 2", /cannot be read|no field/],
    ["[]", /Clusters\.omni\.sidero\.dev must be a mapping/],
    ["nothing", /must be a mapping/],
    ["talosverson: v1", /Clusters\.omni\.sidero\.dev has no field "talosverson"/],
    ["talosversion: 5", /talosversion has a value of the wrong type/],
    ["talosversion: {}", /talosversion has a value of the wrong type/],
    ["features: 1", /features must be a mapping/],
    ["features: {diskencryption: 'yes'}", /features\.diskencryption has a value of the wrong type/],
    ["features: {x: 1}", /features has no field "x"/],
  ];
  for (const [text, words] of wrong)
    assert.throws(
      () => fromYaml(ClusterKind, text),
      (error) => codeOf(error) === "invalid_argument" && words.test((error as Error).message),
      text,
    );
  assert.deepEqual(fromYaml(ClusterKind, ""), new Uint8Array());
  assert.deepEqual(fromYaml(ClusterKind, "talosversion:\nfeatures: null\n"), new Uint8Array());
});

test("any text is a spec or refused in words; aliases do not blow up", () => {
  const any = fc.oneof(
    anyText(),
    fc.object({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
  );
  const kinds = fc.constantFrom(...allKinds);
  const known = kinds.chain((kind) =>
    fc
      .dictionary(
        fc.constantFrom("x", ...kind.spec.fields.map(({ name }) => name.replaceAll("_", ""))),
        fc.anything({ maxDepth: 3 }),
      )
      .map((value) => [kind, JSON.stringify(value) ?? ""] as const),
  );
  fc.assert(
    fc.property(fc.oneof(known, fc.tuple(kinds, any)), ([kind, text]) => {
      try {
        fromYaml(kind, text);
      } catch (error) {
        assert.equal(codeOf(error), "invalid_argument", String((error as Error).stack));
      }
    }),
    { numRuns: 1000 },
  );
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefgh"
    .split("")
    .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${"abcdefgh"[index]}`).join()}]`)
    .join("\n")}`;
  assert.throws(
    () => fromYaml(ClusterKind, bomb),
    (error) => codeOf(error) === "invalid_argument",
  );
});
