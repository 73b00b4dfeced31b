import { create, type DescField, type DescMessage, type Message, ScalarType, toBinary } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { parse, stringify } from "yaml";
import { IchorError } from "#lib/errors.ts";
import type { AnyKind } from "#resource/kind.ts";

/**
 * A spec as YAML the way Go's encoder writes protobuf structs: lower-case field names without separators, enums as numbers (protocols.md
 * 11.5). For people and generic tools; programs read the protobuf form.
 */
export function toYaml(kind: AnyKind, spec: Message): string {
  return stringify(plain(reflect(kind.spec, spec)), { lineWidth: 0 });
}

/** The inverse, as protobuf bytes. Throws `invalid_argument` that names the field. */
export function fromYaml(kind: AnyKind, text: string): Uint8Array {
  let value: unknown;
  try {
    // 64-bit numbers do not fit into others; warnings would repeat the text on the standard error.
    value = parse(text, { maxAliasCount: 100, intAsBigInt: true, logLevel: "error" });
  } catch (cause) {
    throw new IchorError("invalid_argument", "the YAML spec cannot be read", { cause });
  }
  const message = reflect(kind.spec, create(kind.spec));
  fill(message, value, kind.type);
  return toBinary(kind.spec, message.message);
}

function yamlName(field: DescField): string {
  return field.name.replaceAll("_", "").toLowerCase();
}

function plain(message: ReflectMessage): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  for (const field of message.fields) {
    if (field.fieldKind === "message" && !message.isSet(field)) {
      value[yamlName(field)] = null;
      continue;
    }
    if (field.oneof && !message.isSet(field)) continue;
    value[yamlName(field)] = plainField(message, field);
  }
  return value;
}

function plainField(message: ReflectMessage, field: DescField): unknown {
  switch (field.fieldKind) {
    case "message":
      return plain(message.get(field));
    case "list":
      return [...message.get(field)].map((item) => plainItem(field.listKind, item));
    case "map":
      return Object.fromEntries(
        [...message.get(field)].map(([key, item]) => [String(key), plainItem(field.mapKind, item)]),
      );
    default:
      return plainScalar(message.get(field));
  }
}

function plainItem(kind: "scalar" | "enum" | "message", item: unknown): unknown {
  return kind === "message" ? plain(item as ReflectMessage) : plainScalar(item);
}

function plainScalar(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value];
  return value;
}

function fill(message: ReflectMessage, value: unknown, at: string): void {
  if (value === null || value === undefined) return;
  if (typeof value !== "object" || Array.isArray(value))
    throw new IchorError("invalid_argument", `${at} must be a mapping`);
  for (const [name, item] of Object.entries(value)) {
    const field = message.fields.find((known) => yamlName(known) === name.toLowerCase());
    if (!field) throw new IchorError("invalid_argument", `${at} has no field "${name}"`);
    if (item === null) continue;
    try {
      fillField(message, field, item, `${at}.${name}`);
    } catch (cause) {
      if (cause instanceof IchorError) throw cause;
      throw new IchorError("invalid_argument", `${at}.${name} has a value of the wrong type`, { cause });
    }
  }
}

function fillField(message: ReflectMessage, field: DescField, item: unknown, at: string): void {
  if (field.fieldKind === "message") {
    const inner = reflect(field.message as DescMessage);
    fill(inner, item, at);
    message.set(field, inner);
  } else if (field.fieldKind === "list") {
    if (!Array.isArray(item)) throw new IchorError("invalid_argument", `${at} must be a list`);
    const list = message.get(field);
    for (const entry of item)
      list.add(field.listKind === "message" ? filled(field.message, entry, at) : scalar(field.scalar, entry));
  } else if (field.fieldKind === "map") {
    const map = message.get(field);
    for (const [key, entry] of Object.entries(item as object))
      map.set(key, field.mapKind === "message" ? filled(field.message, entry, at) : scalar(field.scalar, entry));
  } else message.set(field, scalar(field.scalar, item));
}

function filled(desc: DescMessage, value: unknown, at: string): ReflectMessage {
  const inner = reflect(desc);
  fill(inner, value, at);
  return inner;
}

const longTypes: readonly (ScalarType | undefined)[] = [
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
];

/** A value as its field wants it; without a type, an enum. What does not fit is refused where it is set. */
function scalar(type: ScalarType | undefined, value: unknown): unknown {
  if (type === ScalarType.BYTES && Array.isArray(value)) {
    const bytes = value.map(Number);
    if (!bytes.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255)) throw new RangeError("no bytes");
    return Uint8Array.from(bytes);
  }
  return typeof value === "bigint" && !longTypes.includes(type) ? Number(value) : value;
}
