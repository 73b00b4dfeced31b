import type { Controller } from "./controller.ts";

/** Controllers and the kinds between them as Graphviz text: an arrow in is an input (dashed when held), an arrow out an output. */
export function toDot(controllers: readonly Controller[]): string {
  const lines = ["digraph ichor {", "  rankdir=LR;", '  node [fontname="sans-serif"];'];
  const kinds = new Set(
    controllers.flatMap(({ inputs, outputs }) => [...inputs, ...outputs].map(({ kind }) => kind.type)),
  );
  for (const type of [...kinds].sort()) lines.push(`  ${quote(type)} [shape=ellipse];`);
  for (const { name, purpose, inputs, outputs } of controllers) {
    lines.push(`  ${quote(name)} [shape=box, style=filled, fillcolor="#fdf1d8", tooltip=${quote(purpose)}];`);
    for (const { kind, holds } of inputs)
      lines.push(`  ${quote(kind.type)} -> ${quote(name)}${holds ? " [style=dashed]" : ""};`);
    for (const { kind } of outputs) lines.push(`  ${quote(name)} -> ${quote(kind.type)};`);
  }
  return `${[...lines, "}"].join("\n")}\n`;
}

function quote(text: string): string {
  return JSON.stringify(text);
}
