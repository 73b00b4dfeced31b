// Writes proto/ from the interface facts (contracts/*.tsv): one file per protobuf package, or per TSV where a package is
// one service family. Run when a new contract arrives: `npm run proto -- DIR_OF_TSV`. The result is committed; nothing at run
// time needs the TSV.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

interface Item {
  kind: "message" | "enum";
  name: string;
  rows: string[][];
  children: Item[];
}
interface Package {
  name: string;
  items: Map<string, Item>;
  services: Map<string, string[][]>;
}

const dir = process.argv[2] ?? "../shared/contracts";
const packages = new Map<string, Package>();

/** `a.b.Outer.Inner` -> ["a.b", "Outer.Inner"]: a package has only lower-case words. */
function split(full: string): [string, string] {
  const parts = full.split(".");
  const at = parts.findIndex((part) => /^[A-Z]/.test(part));
  return [parts.slice(0, at).join("."), parts.slice(at).join(".")];
}

/** Types of packages that we do not state ourselves are opaque bytes: the same on the wire. */
const foreign = /^google\.api\./;

function packageOf(name: string): Package {
  let found = packages.get(name);
  if (!found) {
    found = { name, items: new Map(), services: new Map() };
    packages.set(name, found);
  }
  return found;
}

const scalars = /^(string|bytes|bool|u?int(32|64)|sint(32|64)|s?fixed(32|64)|float|double)$/;
const wellKnown: Record<string, string> = {
  Any: "any",
  Duration: "duration",
  Empty: "empty",
  Struct: "struct",
  Timestamp: "timestamp",
};

for (const file of readdirSync(dir)
  .filter((name) => name.endsWith(".tsv"))
  .sort()) {
  const seen = new Set<string>();
  for (const line of readFileSync(join(dir, file), "utf8").split("\n").slice(1)) {
    const row = line.split("\t");
    const [kind = "", scope = "", number = ""] = row;
    if (!kind) continue;
    const [pkg, name] = split(scope);
    const target = packageOf(pkg);
    if (kind === "rpc") {
      const list = target.services.get(name) ?? [];
      list.push(row);
      target.services.set(name, list);
      continue;
    }
    const itemKind = kind === "enum" ? "enum" : "message";
    const item = target.items.get(name) ?? { kind: itemKind, name, rows: [], children: [] };
    target.items.set(name, item);
    // The same package may stand in two files (common, cosi.resource): the first statement of a number wins.
    const key = `${scope}#${number}#${row[3]}`;
    if (kind !== "message" && !seen.has(key) && !item.rows.some((other) => other[2] === number && kind === "field")) {
      if (!item.rows.some((other) => other[3] === row[3])) item.rows.push(row);
    }
    seen.add(key);
  }
}

/** Enum values of one scope share a namespace in protobuf, as the Talos contracts already respect. */
function printItem(item: Item, indent: string): string {
  const inner = `${indent}  `;
  const lines: string[] = [];
  if (item.kind === "enum") {
    const numbers = item.rows.map((row) => row[2]);
    if (new Set(numbers).size !== numbers.length) lines.push(`${inner}option allow_alias = true;`);
    const rows = [...item.rows].sort((a, b) => (a[2] === "0" ? -1 : b[2] === "0" ? 1 : 0));
    for (const row of rows) lines.push(`${inner}${row[3]} = ${row[2]};`);
  } else {
    for (const child of item.children) lines.push(printItem(child, inner));
    const groups = new Map<string, string[]>();
    const rows = [...item.rows].sort((a, b) => Number(a[2]) - Number(b[2]));
    for (const [, , number, name, stated = "", label = ""] of rows) {
      const type = foreign.test(stated) ? "bytes" : stated;
      const shown =
        scalars.test(type) || type.startsWith("map<")
          ? type.replace(/,([a-z.]*[A-Z])/, ",.$1").replace(/,(?=\S)/, ", ")
          : `.${type}`;
      if (label.startsWith("oneof ")) {
        const group = label.slice(6);
        groups.set(group, [...(groups.get(group) ?? []), `${inner}  ${shown} ${name} = ${number};`]);
      } else {
        lines.push(`${inner}${label ? `${label} ` : ""}${shown} ${name} = ${number};`);
      }
    }
    for (const [group, fields] of groups) lines.push(`${inner}oneof ${group} {`, ...fields, `${inner}}`);
  }
  const short = item.name.slice(item.name.lastIndexOf(".") + 1);
  return `${indent}${item.kind} ${short} {\n${lines.join("\n")}${lines.length ? "\n" : ""}${indent}}`;
}

function path(pkg: string): string {
  return `${pkg.replaceAll(".", "/")}/${pkg.slice(pkg.lastIndexOf(".") + 1)}.proto`;
}

// Ours (proto/ichor) is written by hand and stays.
for (const name of readdirSync("proto")) if (name !== "ichor") rmSync(join("proto", name), { recursive: true });
for (const pkg of packages.values()) {
  const roots: Item[] = [];
  for (const item of pkg.items.values()) {
    const outer = item.name.includes(".") ? item.name.slice(0, item.name.lastIndexOf(".")) : "";
    const parent = outer ? pkg.items.get(outer) : undefined;
    if (outer && !parent) throw new Error(`${pkg.name}.${item.name}: no outer message`);
    (parent ? parent.children : roots).push(item);
  }
  const text = JSON.stringify([...pkg.items.values(), ...pkg.services.values()].flat());
  const imports = new Set<string>();
  for (const [, name] of text.matchAll(/google\.protobuf\.([A-Z]\w+)/g))
    imports.add(`google/protobuf/${wellKnown[name ?? ""]}.proto`);
  if (text.includes("google.rpc.Status")) imports.add("google/rpc/status.proto");
  for (const other of packages.values()) {
    if (other !== pkg && new RegExp(`["<,> ]${other.name.replaceAll(".", "\\.")}\\.[A-Z]`).test(text))
      imports.add(path(other.name));
  }
  const parts = [
    `// Written from the published interface of the package; names and numbers are facts of the wire.\nsyntax = "proto3";\n\npackage ${pkg.name};`,
  ];
  if (imports.size)
    parts.push(
      [...imports]
        .sort()
        .map((name) => `import "${name}";`)
        .join("\n"),
    );
  for (const item of roots) parts.push(printItem(item, ""));
  for (const [name, rpcs] of pkg.services) {
    const lines = rpcs.map(([, , , method, types = ""]) => {
      const [input = "", output = ""] = types.split(" -> ").map((type) => type.replace(/(stream )?(.+)/, "$1.$2"));
      return `  rpc ${method}(${input}) returns (${output});`;
    });
    parts.push(`service ${name} {\n${lines.join("\n")}\n}`);
  }
  const file = join("proto", path(pkg.name));
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, `${parts.join("\n\n")}\n`);
}
mkdirSync("proto/google/rpc", { recursive: true });
writeFileSync(
  "proto/google/rpc/status.proto",
  `// The error model of gRPC: a code, a message, details.\nsyntax = "proto3";\n\npackage google.rpc;\n\nimport "google/protobuf/any.proto";\n\nmessage Status {\n  int32 code = 1;\n  string message = 2;\n  repeated .google.protobuf.Any details = 3;\n}\n`,
);
