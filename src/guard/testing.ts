import { create, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";
import type { Role } from "#resource/kind.ts";
import type { Caller } from "./caller.ts";

/** Somebody of that role, signed in. */
export function someone(role: Role): Caller {
  return { identity: `${role.toLowerCase()}@example`, role, session: role, expires: Number.MAX_SAFE_INTEGER };
}

/** Any message of a type, as deep as `depth` messages. */
export function anyMessage(desc: DescMessage, depth = 3): fc.Arbitrary<Message> {
  const fields = desc.members.flatMap((member) =>
    member.kind === "field"
      ? [[member.localName, anyField(member, depth)]]
      : [[member.localName, anyOneof(member.fields, depth)]],
  ) as [string, fc.Arbitrary<unknown>][];
  return fc
    .record(Object.fromEntries(fields), { requiredKeys: [] })
    .map((init) => create(desc, Object.fromEntries(Object.entries(init).filter(([, value]) => value !== undefined))));
}

function anyOneof(fields: readonly DescField[], depth: number): fc.Arbitrary<unknown> {
  const cases = fields.map((field) => anyField(field, depth).map((value) => ({ case: field.localName, value })));
  return fc.option(
    fc.oneof(...cases).filter(({ value }) => value !== undefined),
    { nil: undefined },
  );
}

function anyField(field: DescField, depth: number): fc.Arbitrary<unknown> {
  switch (field.fieldKind) {
    case "scalar":
      return anyScalar(field.scalar);
    case "enum":
      return fc.constantFrom(...field.enum.values.map(({ number }) => number));
    case "message":
      return depth > 0 ? fc.option(anyMessage(field.message, depth - 1), { nil: undefined }) : fc.constant(undefined);
    case "list":
      return field.listKind === "message" && depth === 0
        ? fc.constant([])
        : fc.array(anyItem(field, depth), { maxLength: 3 });
    case "map":
      return field.mapKind === "message" && depth === 0
        ? fc.constant({})
        : fc.dictionary(anyKey(field.mapKey), anyItem(field, depth), { maxKeys: 3 });
  }
}

function anyItem(field: DescField & { fieldKind: "list" | "map" }, depth: number): fc.Arbitrary<unknown> {
  if (field.scalar !== undefined) return anyScalar(field.scalar);
  if (field.enum) return fc.constantFrom(...field.enum.values.map(({ number }) => number));
  return anyMessage(field.message!, depth - 1);
}

function anyKey(type: ScalarType): fc.Arbitrary<string> {
  if (type === ScalarType.STRING) return anyText();
  if (type === ScalarType.BOOL) return fc.constantFrom("true", "false");
  return fc.nat(0x7fff_ffff).map(String);
}

/** Texts that are hard on encoders, besides any. What is no well-formed Unicode cannot be in a message. */
export function anyText(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.string({ maxLength: 20 }),
    fc.string({ unit: "binary", maxLength: 20 }),
    fc.constantFrom(
      "",
      "null",
      "true",
      "~",
      "0x1f",
      "1e3",
      "- a",
      "a: b",
      "|\n x\n",
      "#",
      "\r\n",
      "<<",
      "2026-01-01",
      " ",
    ),
  );
}

function anyScalar(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return anyText();
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 20 });
    case ScalarType.DOUBLE:
      return fc.double({ noNaN: true });
    case ScalarType.FLOAT:
      return fc.float({ noNaN: true });
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return fc.integer({ min: 0, max: 0xffff_ffff });
    default:
      return fc.integer();
  }
}
