// A network namespace of its own with one wire to ours, for programs that need a kernel's network: root alone can have one.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { accessSync, constants } from "node:fs";
import { createInterface } from "node:readline";

const prefix = "ichor-";

/** A program inside the namespace: what it prints, line by line, and its end. */
export interface Inside {
  readonly child: ChildProcess;
  /** All lines so far, of stdout and stderr. */
  readonly lines: string[];
  /** The first line, now or later, that fits. Throws what was printed when the program ends before. */
  line(fits: (line: string) => boolean): Promise<string>;
  /** Resolves with the exit code. */
  readonly ended: Promise<number>;
  /** Ends it and waits. */
  stop(): Promise<void>;
}

/** A namespace and a veth pair: `outer` is our address on it, `inner` that of the programs inside. */
export class Namespace {
  readonly name: string;
  readonly outer: string;
  readonly inner: string;
  readonly #running = new Set<Inside>();

  private constructor(name: string, outer: string, inner: string) {
    this.name = name;
    this.outer = outer;
    this.inner = inner;
  }

  /** A new namespace, or why there cannot be one here: give that to `t.skip`. */
  static create(): Namespace | { skip: string } {
    if (process.platform !== "linux") return { skip: "network namespaces are a thing of Linux" };
    if (process.getuid?.() !== 0) return { skip: "needs root, for a network namespace and a TUN device" };
    try {
      accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    } catch {
      return { skip: "needs /dev/net/tun" };
    }
    // 198.18.0.0/15 is set aside for tests of networks (RFC 2544): no host on the way has it.
    const net = randomInt(1 << 15) << 2;
    const address = (host: number) => `198.${18 + (net >> 16)}.${(net >> 8) & 255}.${(net & 255) + host}`;
    const name = `${prefix}${process.pid}-${net.toString(36)}`;
    const [outside, inside] = [`io${net.toString(36)}`, `ii${net.toString(36)}`];
    try {
      sweep();
      ip("netns", "add", name);
      ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name);
      ip("address", "add", `${address(1)}/30`, "dev", outside);
      ip("link", "set", outside, "up");
      ip("-n", name, "address", "add", `${address(2)}/30`, "dev", inside);
      ip("-n", name, "link", "set", inside, "up");
      ip("-n", name, "link", "set", "lo", "up");
    } catch (error) {
      try {
        ip("netns", "delete", name);
      } catch {}
      const [first] = String((error as { stderr?: unknown }).stderr || error).split("\n");
      return { skip: `no network namespace can be made here: ${first}` };
    }
    return new Namespace(name, address(1), address(2));
  }

  /** Configures the network inside, as `ip` would. */
  ip(...args: string[]): void {
    ip("-n", this.name, ...args);
  }

  /** Starts a program inside. With `hidden`, that folder is empty for it and private to it. */
  start(command: string, args: readonly string[], { hidden }: { hidden?: string } = {}): Inside {
    const hide = hidden ? `mkdir -p ${hidden} && mount -t tmpfs none ${hidden} && ` : "";
    const child = spawn("ip", ["netns", "exec", this.name, "sh", "-c", `${hide}exec "$@"`, "sh", command, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const lines: string[] = [];
    const waiting = new Set<(line: string | undefined) => void>();
    const take = (line: string) => {
      lines.push(line);
      for (const wake of waiting) wake(line);
    };
    createInterface({ input: child.stdout }).on("line", take);
    createInterface({ input: child.stderr }).on("line", take);
    const ended = new Promise<number>((resolve) => {
      child.on("close", (code) => {
        for (const wake of waiting) wake(undefined);
        this.#running.delete(inside);
        resolve(code ?? 1);
      });
    });
    const inside: Inside = {
      child,
      lines,
      ended,
      line(fits) {
        const found = lines.find(fits);
        if (found !== undefined) return Promise.resolve(found);
        return new Promise((resolve, reject) => {
          const wake = (line: string | undefined) => {
            if (line !== undefined && !fits(line)) return;
            waiting.delete(wake);
            if (line !== undefined) resolve(line);
            else reject(new Error(`${command} ended before it said that; it said:\n${lines.slice(-20).join("\n")}`));
          };
          waiting.add(wake);
          if (child.exitCode !== null) void ended.then(() => wake(undefined));
        });
      },
      async stop() {
        child.kill("SIGTERM");
        await ended;
      },
    };
    this.#running.add(inside);
    return inside;
  }

  /** Ends what runs inside and takes all away. */
  async close(): Promise<void> {
    await Promise.all([...this.#running].map((inside) => inside.stop()));
    ip("netns", "delete", this.name);
  }
}

function ip(...args: string[]): string {
  return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Takes away what killed test runs left behind. */
function sweep(): void {
  for (const line of ip("netns", "list").split("\n")) {
    const [name = ""] = line.split(" ");
    const pid = new RegExp(`^${prefix}(\\d+)-`).exec(name)?.[1];
    if (!pid) continue;
    try {
      process.kill(Number(pid), 0);
    } catch {
      ip("netns", "delete", name);
    }
  }
}
