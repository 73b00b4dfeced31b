import { type ChildProcess, spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";

/** How long it may take to start, and to end. */
const patience = 5_000;

/**
 * Runs wireguard-go in its place, with one watcher beside it: that ends it when our end of its standard input closes, as it does however we
 * end, by a kill -9 as well.
 */
const script = `exec 3<&0
{ read -r _ <&3; kill $$; } >/dev/null 2>&1 &
exec wireguard-go -f "$1" </dev/null 3<&-`;

/** wireguard-go as a child of ours: WireGuard where the kernel has none. */
export class UserspaceWireGuard {
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  #lastWords = "";
  /** Resolves with its last words when it has ended. */
  readonly ended: Promise<string>;
  #hasEnded = false;

  /** Starts it; resolves when the interface can be configured. Throws `failed_precondition` with what it said. */
  static async start(name: string, clock: Clock): Promise<UserspaceWireGuard> {
    const go = new UserspaceWireGuard(name, clock);
    for (const begin = clock.monotonic(); ; await sleep(10, clock)) {
      if (go.#hasEnded) throw notStarted(await go.ended);
      const socket = await reach(name);
      if (socket) {
        socket.destroy();
        return go;
      }
      if (clock.monotonic() - begin < patience) continue;
      await go.stop();
      throw notStarted("it does not answer");
    }
  }

  private constructor(name: string, clock: Clock) {
    this.#clock = clock;
    // A group of its own: Ctrl-C is for us, and it is still needed while we say goodbye.
    const child = spawn("sh", ["-c", script, "ichor", name], { stdio: "pipe", detached: true });
    this.#child = child;
    child.stdin?.on("error", () => {});
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        this.#lastWords = `${this.#lastWords}${chunk}`.slice(-2000);
      });
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.#hasEnded = true;
        // The watcher reads on until then.
        child.stdin?.destroy();
        resolve(this.#lastWords.trim().split("\n").at(-1) ?? "");
      };
      child.once("error", end);
      child.once("close", end);
    });
  }

  /** Ends it, and its interface with it. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    const hard = this.#clock.after(patience, () => void this.#child.kill("SIGKILL"));
    await this.ended;
    hard.cancel();
  }
}

/** A connection to whoever carries an interface of that name in user space; undefined when nobody does. */
export function reach(name: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(`/var/run/wireguard/${name}.sock`);
    socket.once("connect", () => resolve(socket));
    socket.on("error", () => resolve(undefined));
  });
}

function notStarted(words: string): IchorError {
  return new IchorError(
    "failed_precondition",
    `--link kernel: this kernel has no WireGuard, and wireguard-go could not take its place (${words}): load the module (modprobe wireguard), install wireguard-go and give it /dev/net/tun, or use --link user`,
  );
}
