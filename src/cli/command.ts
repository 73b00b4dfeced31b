import { createInterface } from "node:readline/promises";
import { Command } from "commander";
import { IchorError } from "#lib/errors.ts";
import { report } from "./exit.ts";
import { say } from "./output.ts";
import { defaultData, openPlane, type Plane } from "./plane.ts";

/** What every command may count on. */
export interface Invocation {
  readonly data: string;
  readonly json: boolean;
  /** Aborts on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** The plane of `--data`; opened at first use. */
  readonly plane: Plane;
}

/** A noun: groups verbs. */
export function noun(name: string, description: string): Command {
  return new Command(name).description(description);
}

/**
 * A verb with `--data` and `--json`. `run` gets the invocation, the options and the arguments; what it throws is told in words and
 * becomes the exit code.
 */
export function verb<O extends object>(
  usage: string,
  description: string,
  run: (invocation: Invocation, options: O, ...args: string[]) => Promise<void>,
): Command {
  const [name = "", ...parameters] = usage.split(" ");
  const command = new Command(name).description(description);
  for (const parameter of parameters) command.argument(parameter);
  return command
    .option("--data <dir>", "data directory of the plane on this machine", defaultData)
    .option("--json", "answer in JSON")
    .action(async (...given: unknown[]) => {
      const options = given.at(-2) as O & { data: string; json?: boolean };
      const args = given.slice(0, -2).filter((arg) => arg !== undefined) as string[];
      const stop = new AbortController();
      const abort = () => stop.abort(new IchorError("aborted", "interrupted"));
      process.once("SIGINT", abort).once("SIGTERM", abort);
      let plane: Plane | undefined;
      const invocation: Invocation = {
        data: options.data,
        json: options.json ?? false,
        signal: stop.signal,
        get plane() {
          plane ??= openPlane(options.data);
          return plane;
        },
      };
      try {
        await run(invocation, options, ...args);
        process.exitCode ??= 0;
      } catch (error) {
        process.exitCode = report(error);
      } finally {
        process.removeListener("SIGINT", abort).removeListener("SIGTERM", abort);
        plane?.close();
      }
    });
}

/** Asks before something is destroyed. Without a terminal, `--yes` is needed: throws `failed_precondition`. */
export async function confirm(question: string, yes: boolean | undefined): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY)
    throw new IchorError("failed_precondition", `${question} Say --yes to go on: there is no terminal to ask.`);
  const ask = createInterface({ input: process.stdin, output: process.stderr });
  const reply = await ask.question(`${question} [y/N] `);
  ask.close();
  if (!/^y(es)?$/i.test(reply.trim())) {
    say("Nothing was changed.");
    throw new IchorError("aborted", "not confirmed");
  }
}
