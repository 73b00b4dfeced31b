// Writes src/kinds/all.ts from the files under src/kinds/<area>/: the registry is derived, never kept by hand.
import { readdirSync, writeFileSync } from "node:fs";

/** The text that src/kinds/all.ts must have. */
export function registryText(): string {
  const files = readdirSync("src/kinds", { recursive: true, encoding: "utf8" })
    .filter((name) => name.includes("/") && name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .sort();
  const names = files.map((file) => [file, constant(file)] as const);
  const imports = names.map(([file, name]) => `import { ${name} } from "./${file}";`);
  const list = names.map(([, name]) => `  ${name},`);
  return `// Written by tools/kinds.ts; do not edit.
import type { AnyKind } from "#resource/kind.ts";
${imports.join("\n")}

/** Every kind there is. */
export const allKinds: readonly AnyKind[] = [
${list.join("\n")}
];

const byType = new Map(allKinds.map((kind) => [kind.type, kind]));

/** The kind of a public type name, \`Clusters.omni.sidero.dev\`; undefined when there is none. */
export function kindOf(type: string): AnyKind | undefined {
  return byType.get(type);
}
`;
}

/** `machine/grpc-tunnel-config.ts` -> `GRPCTunnelConfigKind`. */
function constant(file: string): string {
  const acronyms: Record<string, string> = { grpc: "GRPC", api: "API", uuid: "UUID" };
  const words = file.slice(file.lastIndexOf("/") + 1, -3).split("-");
  return `${words.map((word) => acronyms[word] ?? word[0]?.toUpperCase() + word.slice(1)).join("")}Kind`;
}

if (import.meta.main) writeFileSync("src/kinds/all.ts", registryText());
