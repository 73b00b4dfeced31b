import { type ChildProcess, execFile, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
/** What users run. */
const ichor = fileURLToPath(new URL("../../ichor", import.meta.url));

/** What a command of the CLI said. */
export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A plane in a process of its own, on ports that nobody else has, with a data directory that is removed at the end. */
export class TestPlane {
  readonly data: string;
  readonly log: string;
  /** What the plane wrote to standard output, line by line. */
  readonly printed: string[] = [];
  readonly #processes = new Set<ChildProcess>();
  readonly #heard = new EventEmitter();
  #told = "";
  #plane: ChildProcess | undefined;

  constructor(name: string) {
    this.data = mkdtempSync(join(tmpdir(), `ichor-${name}-`));
    this.log = join(this.data, "test.log");
  }

  /** Starts it, or starts it again on the same data; resolves with the sign-in link that it prints. */
  async start(...more: string[]): Promise<string> {
    const ports = this.#plane ? this.#ports() : ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"];
    const [listen, machineApi, wireguard] = ports;
    const args = ["--listen", listen!, "--machine-api", machineApi!, "--wireguard", wireguard!, ...more];
    const child = this.#spawn(["up", "--data", this.data, ...args]);
    this.#plane = child;
    return new Promise((resolve, reject) => {
      const lines = createInterface({ input: child.stdout! });
      lines.on("line", (line) => {
        this.printed.push(line);
        const link = /^Sign-in link\s+(\S+)/.exec(line)?.[1];
        if (link) resolve(link);
      });
      lines.on("close", () => reject(new Error(`the plane did not start: ${this.#told.slice(-2000)}`)));
    });
  }

  /** Process id of the running plane. */
  get pid(): number {
    return this.#plane?.pid ?? 0;
  }

  /** kill -9, as a power cut would. */
  async kill(): Promise<void> {
    const plane = this.#plane!;
    const ended = new Promise((resolve) => plane.once("exit", resolve));
    plane.kill("SIGKILL");
    await ended;
  }

  /** A command of the CLI against this plane; what it wrote and its exit code. */
  async cli(...args: string[]): Promise<Said> {
    return said(ichor, [...args, "--data", this.data]);
  }

  /** The same, with an answer in JSON; throws what it said when it failed. */
  async json<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.cli(...args, "--json");
    if (code !== 0) throw new Error(`ichor ${args.join(" ")}: exit ${code}: ${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Boots emulated machines without delays and resolves with their UUIDs. They end with the test. */
  async emulate(count: number, ...more: string[]): Promise<string[]> {
    const { stdout } = await this.cli("join", "--kernel-args");
    const args = ["emulate", "--count", String(count), "--delays", "none", "--kernel-args", stdout.trim(), "--json"];
    const child = this.#spawn([...args, ...more]);
    let text = "";
    for await (const chunk of child.stdout!) {
      text += chunk;
      if (text.trimEnd().endsWith("}")) break;
    }
    child.stdout!.resume();
    return (JSON.parse(text) as { machines: string[] }).machines;
  }

  /** Waits until the log of plane and machines, from its beginning, has a line like that. */
  async logged(pattern: RegExp, signal: AbortSignal = AbortSignal.timeout(30_000)): Promise<void> {
    while (!pattern.test(this.#told)) await once(this.#heard, "line", { signal });
  }

  async stop(): Promise<void> {
    const all = [...this.#processes];
    const ended = all.map((child) => new Promise((resolve) => child.once("exit", resolve)));
    for (const child of all) child.kill("SIGKILL");
    await Promise.all(ended);
    rmSync(this.data, { recursive: true, force: true });
  }

  #ports(): string[] {
    const { api, machineApi, wireguard } = JSON.parse(readFileSync(join(this.data, "plane.json"), "utf8")) as Record<
      string,
      string
    >;
    return [new URL(api!).host, machineApi!.replace("grpc://", ""), wireguard!];
  }

  #spawn(args: string[]): ChildProcess {
    const child = spawn(ichor, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ICHOR_LOG: process.env.ICHOR_LOG ?? "info" },
    });
    child.stderr!.pipe(createWriteStream(this.log, { flags: "a" }));
    child.stderr!.on("data", (chunk: Buffer) => {
      this.#told += chunk;
      this.#heard.emit("line");
    });
    this.#processes.add(child);
    child.once("exit", (code) => {
      this.#processes.delete(child);
      // Nobody asked for that: whatever fails next, this is why.
      if (code) process.stderr.write(`ichor ${args[0]} ended with code ${code}:\n${this.#told.slice(-3000)}\n`);
    });
    return child;
  }
}

/** Runs a program; a failure is an answer, not a throw. */
export async function said(command: string, args: string[], env: Record<string, string> = {}): Promise<Said> {
  try {
    const { stdout, stderr } = await run(command, args, {
      env: { ...process.env, ...env },
      maxBuffer: 64 << 20,
      timeout: 120_000,
    });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as { code?: number; stdout?: string; stderr?: string };
    return { code: typeof code === "number" ? code : 1, stdout, stderr: stderr || String(error) };
  }
}

/** A template of one control plane set and, with workers, one worker set. */
export function template(
  name: string,
  controlPlanes: readonly string[],
  workers: readonly string[],
  more = "",
): string {
  const list = (ids: readonly string[]) => ids.map((id) => `  - ${id}\n`).join("");
  const head = `kind: Cluster\nname: ${name}\nkubernetes:\n  version: v1.36.3\ntalos:\n  version: v1.13.9\n${more}`;
  const main = `${head}---\nkind: ControlPlane\nmachines:\n${list(controlPlanes)}`;
  return workers.length ? `${main}---\nkind: Workers\nname: workers\nmachines:\n${list(workers)}` : main;
}
