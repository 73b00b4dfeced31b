import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ResourceSchema } from "#gen/cosi/resource/resource_pb.ts";
import { SiderolinkSpecSchema } from "#gen/specs/specs_pb.ts";
import { codeOf } from "#lib/errors.ts";
import { defineKind, isKind, roles } from "#resource/kind.ts";
import type { Metadata } from "#resource/resource.ts";
import { allKinds } from "./all.ts";
import { LinkKind } from "./machine/link.ts";
import { fromWire, metadataFromWire, toWire } from "./wire.ts";

const text = fc.string({ unit: "grapheme" });
const map = fc.dictionary(
  text.filter((key) => key !== "__proto__"),
  text,
  { noNullPrototype: true },
);
/** Milliseconds that Omni's clients may see: 1970 to 9999. */
const time = fc.integer({ min: 1, max: 253_402_300_799_000 });
const metadata: fc.Arbitrary<Metadata> = fc.record(
  {
    namespace: text,
    type: text,
    id: text,
    version: fc.nat(Number.MAX_SAFE_INTEGER),
    phase: fc.constantFrom("running" as const, "tearingDown" as const),
    owner: text,
    labels: map,
    annotations: map,
    finalizers: fc.uniqueArray(text),
    created: fc.oneof(fc.constant(0), time),
    updated: fc.oneof(fc.constant(0), time),
  },
  { noNullPrototype: true },
);
const spec = fc
  .record(
    { nodeSubnet: text, nodePublicKey: text, lastEndpoint: text, connected: fc.boolean() },
    { noNullPrototype: true },
  )
  .map((fields) => create(SiderolinkSpecSchema, fields));

test("a resource is the same after the wire", () => {
  fc.assert(
    fc.property(metadata, spec, (from, body) => {
      const bytes = toBinary(ResourceSchema, toWire(LinkKind, from, body));
      const { metadata: back, spec: read } = fromWire(LinkKind, fromBinary(ResourceSchema, bytes));
      assert.deepEqual({ ...back, labels: { ...back.labels }, annotations: { ...back.annotations } }, from);
      assert.deepEqual(toBinary(SiderolinkSpecSchema, read), toBinary(SiderolinkSpecSchema, body));
    }),
    { numRuns: 300 },
  );
});

test("a new resource has no version yet, on the wire as `undefined`", () => {
  const wire = toWire(
    LinkKind,
    { ...metadataFromWire(create(ResourceSchema)), version: 0 },
    create(SiderolinkSpecSchema),
  );
  assert.equal(wire.metadata?.version, "undefined");
  assert.equal(wire.metadata?.created, undefined);
});

test("any envelope is read to sound values; a spec of another kind is refused in words", () => {
  fc.assert(
    fc.property(
      fc.oneof(text, fc.constantFrom("-1", "1e3", "Infinity", "NaN", "0x10", " 5", "9007199254740993")),
      text,
      (version, phase) => {
        const read = metadataFromWire(create(ResourceSchema, { metadata: { version, phase } }));
        assert.ok(Number.isSafeInteger(read.version) && read.version >= 0, `version ${version} became ${read.version}`);
        assert.ok(read.phase === "running" || read.phase === "tearingDown");
        if (/^[1-9]\d{0,14}$/.test(version)) assert.equal(read.version, Number(version));
      },
    ),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (protoSpec) => {
      try {
        fromWire(LinkKind, create(ResourceSchema, { metadata: { id: "x" }, spec: { protoSpec } }));
      } catch (error) {
        assert.equal(codeOf(error), "data_loss");
      }
    }),
  );
});

test("kinds: one name each, secrets are read by nobody and sealed, defaults filled in", () => {
  const seen = new Set<string>();
  for (const kind of allKinds) {
    assert.match(kind.type, /^[A-Z][A-Za-z]+\.(\w+\.sidero|ichor)\.dev$/);
    assert.ok(!seen.has(kind.type), kind.type);
    seen.add(kind.type);
    if (kind.secret) assert.deepEqual([kind.read, kind.sealed], ["nobody", true], kind.type);
    assert.ok(kind.read === "nobody" || roles.includes(kind.read!));
    assert.ok(roles.includes(kind.write!));
    assert.deepEqual(kind.key("x"), { namespace: kind.namespace, type: kind.type, id: "x" });
    assert.equal(isKind(kind, kind.key("x")), true);
    if (kind.parent)
      assert.ok(
        allKinds.some(({ type }) => type === kind.parent?.type),
        `${kind.type} has no parent`,
      );
  }
  const open = defineKind({ type: "T.ichor.dev", namespace: "n", spec: SiderolinkSpecSchema, writer: "users" });
  assert.deepEqual([open.read, open.write, open.sealed], ["Reader", "Operator", false]);
  assert.equal(isKind(open, { namespace: "other", type: "T.ichor.dev" }), false);
});
