import { type DescField, type DescMessage, fromBinary, ScalarType } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { stringify } from "yaml";
import { formatIP } from "#lib/ip.ts";

/** The YAML form of a spec: camelCase keys, addresses and enums in words, empty values left out. */
export function toYaml(schema: DescMessage, proto: Uint8Array): string {
  return stringify(messageValue(reflect(schema, fromBinary(schema, proto))));
}

function messageValue(message: ReflectMessage): unknown {
  const special = wellKnown(message);
  if (special !== undefined) return special;
  const out: Record<string, unknown> = {};
  for (const field of message.fields) {
    const value = fieldValue(message, field);
    if (value !== undefined && (message.isSet(field) || field.fieldKind === "scalar")) out[field.jsonName] = value;
  }
  return out;
}

function wellKnown(message: ReflectMessage): unknown {
  const raw = message.message as unknown as { ip?: Uint8Array; port?: number; prefixLength?: number };
  switch (message.desc.typeName) {
    case "common.NetIP":
      return ipText(raw.ip);
    case "common.NetIPPrefix":
      return `${ipText(raw.ip)}/${raw.prefixLength}`;
    case "common.NetIPPort":
      return `${ipText(raw.ip)}:${raw.port}`;
    default:
      return undefined;
  }
}

function ipText(ip: Uint8Array | undefined): string {
  return ip?.length ? formatIP(ip) : "";
}

function fieldValue(message: ReflectMessage, field: DescField): unknown {
  if (field.fieldKind === "list") return [...message.get(field)].map((item) => plain(field, item));
  if (field.fieldKind === "map") {
    return Object.fromEntries([...message.get(field)].map(([key, value]) => [String(key), plain(field, value)]));
  }
  if (field.fieldKind === "message") return message.isSet(field) ? messageValue(message.get(field)) : undefined;
  return plain(field, message.get(field));
}

function plain(field: DescField, value: unknown): unknown {
  if (value instanceof Uint8Array) {
    return value.length === 6
      ? [...value].map((byte) => byte.toString(16).padStart(2, "0")).join(":")
      : Buffer.from(value).toString("base64");
  }
  if (typeof value === "bigint") return Number(value);
  if (field.fieldKind === "scalar" && field.scalar === ScalarType.BOOL) return value;
  const kind = field.fieldKind === "list" ? field.listKind : field.fieldKind;
  if (kind === "enum" && field.enum) {
    const name = field.enum.value[value as number]?.name ?? String(value);
    const words: Record<string, string> = {
      TYPE_CONTROL_PLANE: "controlplane",
      TYPE_WORKER: "worker",
      MACHINE_STAGE_SHUTTING_DOWN: "shutting down",
    };
    return (
      words[name] ??
      name
        .replace(/^(MACHINE_STAGE|OPER_STATE|VOLUME_PHASE|FILESYSTEM_TYPE|LINK|SCOPE|PROTOCOL|VOLUME_TYPE)_/, "")
        .toLowerCase()
    );
  }
  if (kind === "message" && value && typeof value === "object" && "desc" in value)
    return messageValue(value as ReflectMessage);
  return value;
}
