import type { KubeObject } from "./objects.ts";

/** Where an emulated program writes and how it ends. */
export interface Terminal {
  stdout(text: string): void;
  stderr(text: string): void;
  exit(code: number): void;
}

/** A program in an emulated container: takes its input, and hears of its end. */
export interface Program {
  stdin(text: string): void;
  end(): void;
}

/** Runs a command: a handful of tools and a line-by-line shell, no more. */
export function runProgram(pod: KubeObject, command: readonly string[], terminal: Terminal): Program {
  const [name = "", ...args] = command;
  const tool = name.split("/").at(-1) ?? "";
  if (["sh", "bash", "ash"].includes(tool)) {
    const at = args.indexOf("-c");
    if (at >= 0) return finish(terminal, runLine(pod, args[at + 1] ?? "", terminal));
    return shell(pod, terminal);
  }
  if (tool === "cat" && args.length === 0)
    return { stdin: (text) => terminal.stdout(text), end: () => terminal.exit(0) };
  return finish(terminal, runTool(pod, tool, args, terminal));
}

function finish(terminal: Terminal, code: number): Program {
  terminal.exit(code);
  return { stdin() {}, end() {} };
}

function shell(pod: KubeObject, terminal: Terminal): Program {
  let pending = "";
  terminal.stdout("/ # ");
  return {
    stdin(text) {
      pending = (pending + text.replaceAll("\r", "\n")).slice(-65_536);
      for (let at = pending.indexOf("\n"); at >= 0; at = pending.indexOf("\n")) {
        const line = pending.slice(0, at).trim();
        pending = pending.slice(at + 1);
        const leave = /^exit(?:\s+(\d+))?$/.exec(line);
        if (leave) return terminal.exit(Number(leave[1] ?? 0));
        if (line) runLine(pod, line, terminal);
        terminal.stdout("/ # ");
      }
    },
    end: () => terminal.exit(0),
  };
}

function runLine(pod: KubeObject, line: string, terminal: Terminal): number {
  let code = 0;
  for (const part of line.split(/;|&&/)) {
    const words = [...part.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
      (match) => match[1] ?? match[2] ?? match[3] ?? "",
    );
    const [tool, ...args] = words;
    if (tool === "exit") return Number(args[0] ?? 0) & 255;
    if (tool) code = runTool(pod, tool.split("/").at(-1) ?? "", args, terminal);
  }
  return code;
}

function runTool(pod: KubeObject, tool: string, args: readonly string[], terminal: Terminal): number {
  const node = String((pod.spec as { nodeName?: string } | undefined)?.nodeName ?? "");
  switch (tool) {
    case "echo":
      terminal.stdout(`${args.join(" ")}\n`);
      return 0;
    case "hostname":
      terminal.stdout(`${pod.metadata.name}\n`);
      return 0;
    case "uname":
      terminal.stdout(
        args.includes("-a") ? `Linux ${pod.metadata.name} 6.18.38-talos #1 SMP x86_64 GNU/Linux\n` : "Linux\n",
      );
      return 0;
    case "env":
      terminal.stdout(
        `HOSTNAME=${pod.metadata.name}\nKUBERNETES_SERVICE_HOST=10.96.0.1\nKUBERNETES_SERVICE_PORT=443\nNODE_NAME=${node}\n`,
      );
      return 0;
    case "ls":
      terminal.stdout("bin  dev  etc  proc  tmp  var\n");
      return 0;
    case "id":
      terminal.stdout("uid=0(root) gid=0(root)\n");
      return 0;
    case "date":
      terminal.stdout(`${new Date().toUTCString()}\n`);
      return 0;
    case "true":
      return 0;
    case "false":
      return 1;
    default:
      terminal.stderr(`${tool}: not found in the emulated container\n`);
      return 127;
  }
}
