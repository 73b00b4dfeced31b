// Builds others' programs from the Go module proxy, once, and keeps them under .cache/interop: `node test/interop/build.ts` builds all, and
// `./ichor test interop` does so first, since no test has the minutes that it takes. `await goTool("talosctl")` answers the path of a binary.
// Each folder here with a go.mod is one set of tools.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const cache = join(here, "../../.cache/interop");

/** Folder of its go.mod, package, and settings of the build. */
interface Tool {
  readonly folder: string;
  readonly target: string;
  readonly flags?: readonly string[];
}

const tools: Record<string, Tool> = {
  talosctl: {
    folder: "talosctl",
    target: "github.com/siderolabs/talos/cmd/talosctl",
    flags: ["-ldflags", "-X github.com/siderolabs/talos/pkg/machinery/version.Tag=v1.13.0"],
  },
  "siderolink-agent": {
    folder: "siderolink-machine",
    target: "github.com/siderolabs/siderolink/cmd/siderolink-agent",
  },
  "kube-apiserver": {
    folder: "kube-apiserver",
    target: "k8s.io/kubernetes/cmd/kube-apiserver",
    flags: ["-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.1"],
  },
  "wireguard-go": { folder: "siderolink-machine", target: "golang.zx2c4.com/wireguard" },
  "siderolink-sink": { folder: "siderolink-machine", target: "./sink" },
  ping: { folder: "ping", target: "." },
  etcd: { folder: "etcd", target: "go.etcd.io/etcd/server/v3" },
  "siderolink-machine": { folder: "siderolink-machine", target: "." },
};

/** The path of a tool that was built, or why it is not to be had here: give that to `t.skip`. */
export async function goTool(name: string): Promise<{ path: string } | { skip: string }> {
  const { path, stamp } = placeOf(name);
  if (existsSync(path) && readIf(`${path}.stamp`) === stamp) return { path };
  return { skip: `${name} is not built: ./ichor test interop does that, where Go is installed` };
}

function placeOf(name: string) {
  const tool = tools[name];
  if (!tool) throw new Error(`there is no tool ${name}; there are ${Object.keys(tools).join(", ")}`);
  const folder = join(here, tool.folder);
  return { tool, folder, path: join(cache, name), stamp: stampOf(folder, tool) };
}

/** Builds a tool unless that was done; answers its path, or why it cannot be built here. */
async function build(name: string): Promise<{ path: string } | { skip: string }> {
  const { tool, folder, path, stamp } = placeOf(name);
  if (existsSync(path) && readIf(`${path}.stamp`) === stamp) return { path };
  if ((await run("go", ["version"], here)).code !== 0) return { skip: "Go is not installed" };
  mkdirSync(cache, { recursive: true });
  const unlock = await lock(`${path}.lock`);
  try {
    if (existsSync(path) && readIf(`${path}.stamp`) === stamp) return { path };
    process.stderr.write(`building ${name} (some minutes, once)\n`);
    // Builds of this size leave nothing of a small machine to others unless told to.
    const { code, output } = await run(
      "nice",
      ["go", "build", "-trimpath", ...(tool.flags ?? []), "-o", `${path}.new`, tool.target],
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

/** All that the binary is made of: one of another stamp is built anew. */
function stampOf(folder: string, tool: Tool): string {
  const own = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".mod") || name.endsWith(".sum") || name.endsWith(".go"),
  );
  const hash = createHash("sha256").update(JSON.stringify([tool.target, tool.flags]));
  for (const name of own.sort()) hash.update(`${name}\0`).update(readFileSync(join(folder, name)));
  return hash.digest("hex");
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

/** One build at a time, of all processes; a lock whose holder is gone is taken over. */
async function lock(file: string): Promise<() => void> {
  for (;;) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx" });
      return () => rmSync(file, { force: true });
    } catch {
      if (isStale(file)) rmSync(file, { force: true });
      else await sleep(200);
    }
  }
}

function isStale(file: string): boolean {
  const { text, age } = (() => {
    try {
      return { text: readFileSync(file, "utf8"), age: Date.now() - statSync(file).mtimeMs };
    } catch {
      return { text: "", age: 0 };
    }
  })();
  // Made, but not written yet.
  if (text === "") return age > 10_000;
  try {
    process.kill(Number(text), 0);
    return false;
  } catch {
    return true;
  }
}

if (import.meta.main) {
  const wanted = process.argv.slice(2);
  for (const name of wanted.length ? wanted : Object.keys(tools)) {
    const result = await build(name);
    console.log("path" in result ? `built ${name}` : `skipped ${name}: ${result.skip}`);
  }
}
