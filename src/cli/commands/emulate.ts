import { readFileSync } from "node:fs";
import { Command } from "commander";
import { report } from "#cli/exit.ts";
import { printJson, say } from "#cli/output.ts";
import type { DelayProfile } from "#emulator/delays.ts";
import { startEmulator } from "#emulator/emulate.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import { type Logger, silent } from "#lib/log.ts";

interface Options {
  readonly count: string;
  readonly api?: string;
  readonly kernelArgs?: string;
  readonly state?: string;
  readonly seed: string;
  readonly talos?: string;
  readonly delays: string;
  readonly kubeApiserver?: string;
  readonly etcd?: string;
  readonly json?: boolean;
}

/** What goes wrong in the emulator itself is a line on standard error. */
const warn = (facts: object, message: string) => {
  const details = Object.entries(facts).map(
    ([key, value]) => `${key}=${value instanceof Error ? messageOf(value) : value}`,
  );
  say(`emulator: ${message}: ${details.join(" ")}`);
};
const warnings: Logger = { ...silent, warn, error: warn, child: () => warnings };

/** `ichor emulate` */
export const emulate: Command = new Command("emulate")
  .description("Talos machines on the real wire, many in this process; see docs/emulator-differences.md")
  .option("--count <n>", "how many", "1")
  .option("--api <url>", "machine API to join, with its join token: grpc://HOST:PORT?jointoken=…")
  .option("--kernel-args <args>", "a whole kernel command line instead; - reads it from standard input")
  .option("--state <dir>", "keep machines and their disks here over restarts (default: nowhere)")
  .option("--seed <text>", "same seed, same machines", "ichor")
  .option("--talos <version>", "what the boot medium holds")
  .option("--delays <profile>", "real (proportions of a real machine) or none", "real")
  .option(
    "--kube-apiserver <path>",
    "a real kube-apiserver for each cluster in the place of the built-in API; with --etcd",
  )
  .option("--etcd <path>", "the etcd of that kube-apiserver")
  .option("--json", "tell the machines in JSON")
  .action(async (options: Options) => {
    const stop = new AbortController();
    const abort = () => stop.abort(new IchorError("aborted", "interrupted"));
    process.once("SIGINT", abort).once("SIGTERM", abort);
    // Started by `ichor up --demo`: the site ends with its plane, however that ends.
    process.once("disconnect", abort);
    try {
      const count = Number(options.count);
      if (!Number.isInteger(count) || count < 1 || count > 20_000)
        throw new IchorError("invalid_argument", `--count: "${options.count}" is not a number from 1 to 20000`);
      if (options.delays !== "real" && options.delays !== "none")
        throw new IchorError("invalid_argument", `--delays: "${options.delays}" is neither real nor none`);
      if (!options.api && !options.kernelArgs)
        throw new IchorError(
          "invalid_argument",
          "say where to join: --api, or --kernel-args with what ichor join prints",
        );
      if (!options.kubeApiserver !== !options.etcd)
        throw new IchorError(
          "invalid_argument",
          "--kube-apiserver and --etcd go together: give the paths of both, or neither for the built-in Kubernetes API",
        );
      if (options.api && !(URL.canParse(options.api) && /^(grpc|https):$/.test(new URL(options.api).protocol)))
        throw new IchorError(
          "invalid_argument",
          `--api: "${options.api}" is not a machine API such as grpc://HOST:8090?jointoken=…`,
        );
      const kernelArgs = options.kernelArgs === "-" ? readFileSync(0, "utf8") : options.kernelArgs;
      const emulator = await startEmulator({
        count,
        seed: options.seed,
        delays: options.delays satisfies DelayProfile,
        log: warnings,
        ...(options.api ? { apiUrl: options.api } : {}),
        ...(kernelArgs ? { kernelArgs } : {}),
        ...(options.state ? { stateDir: options.state } : {}),
        ...(options.kubeApiserver && options.etcd
          ? { kubernetes: { apiServer: options.kubeApiserver, etcd: options.etcd } }
          : {}),
        ...(options.talos ? { talosVersion: options.talos } : {}),
        signal: stop.signal,
      });
      const machines = emulator.machines.map(({ uuid }) => uuid);
      process.send?.({ machines });
      if (options.json) printJson({ machines });
      else if (!process.send)
        say(`${count} emulated ${count === 1 ? "machine boots" : "machines boot"}; Ctrl-C ends them.`);
      // The clock's timers hold no process, and machines that are not joined yet have nothing else: this does.
      const alive = setInterval(() => {}, 2 ** 30);
      await new Promise<void>((resolve) => {
        if (stop.signal.aborted) resolve();
        else stop.signal.addEventListener("abort", () => resolve(), { once: true });
      });
      clearInterval(alive);
      await emulator.stop();
      process.exit(0);
    } catch (error) {
      process.exit(report(error));
    }
  });
