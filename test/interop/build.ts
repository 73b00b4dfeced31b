// Builds others' programs from the Go module proxy: `await goTool("talosctl")` answers the path of the binary, built once and kept under
// .cache/interop. Each folder here with a go.mod is one set of tools.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const cache = join(here, "../../.cache/interop");

/** Tool -> folder of its go.mod, package, and settings of the build. */
const tools: Record<string, { folder: string; target: string; flags?: string[] }> = {
  talosctl: {
    folder: "talosctl",
    target: "github.com/siderolabs/talos/cmd/talosctl",
    flags: ["-ldflags", "-X github.com/siderolabs/talos/pkg/machinery/version.Tag=v1.13.0"],
  },
};

/** The path of a tool, or why it is not to be had here: give that to `t.skip`. */
export async function goTool(name: string): Promise<{ path: string } | { skip: string }> {
  const tool = tools[name];
  if (!tool) throw new Error(`there is no tool ${name}; there are ${Object.keys(tools).join(", ")}`);
  const folder = join(here, tool.folder);
  const path = join(cache, name);
  const stamp = `${readFileSync(join(folder, "go.mod"))}${existsSync(join(folder, "go.sum")) ? readFileSync(join(folder, "go.sum")) : ""}`;
  if (existsSync(path) && readIf(`${path}.stamp`) === stamp) return { path };
  if ((await run("go", ["version"], here)).code !== 0) return { skip: "Go is not installed" };
  mkdirSync(cache, { recursive: true });
  const unlock = await lock(`${path}.lock`);
  try {
    if (existsSync(path) && readIf(`${path}.stamp`) === stamp) return { path };
    process.stderr.write(`building ${name} (some minutes, once)\n`);
    const { code, output } = await run(
      "go",
      ["build", "-trimpath", ...(tool.flags ?? []), "-o", `${path}.new`, tool.target],
      folder,
    );
    if (code !== 0) return { skip: `building ${name} failed: ${output.trim().split("\n").slice(-5).join(" | ")}` };
    renameSync(`${path}.new`, path);
    writeFileSync(`${path}.stamp`, stamp);
    return { path };
  } finally {
    unlock();
  }
}

function readIf(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

function run(command: string, args: string[], cwd: string): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("error", () => resolve({ code: 127, output: `${command} is not installed` }));
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** One build at a time; a lock whose holder is gone is taken over. */
async function lock(file: string): Promise<() => void> {
  for (;;) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx" });
      return () => rmSync(file, { force: true });
    } catch {
      const holder = Number(readIf(file));
      try {
        if (holder) process.kill(holder, 0);
        else rmSync(file, { force: true });
      } catch {
        rmSync(file, { force: true });
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

if (import.meta.main) {
  const result = await goTool(process.argv[2] ?? "");
  console.log("path" in result ? result.path : result.skip);
  process.exitCode = "path" in result ? 0 : 1;
}
