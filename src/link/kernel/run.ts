import { execFile } from "node:child_process";
import { IchorError } from "#lib/errors.ts";

/** What to install where a program is missing. */
const packages: Readonly<Record<string, string>> = {
  ip: "the package iproute2",
  wg: "the package wireguard-tools",
  sh: "a shell",
};

/** A program that could not be run, or said no. */
export class ProgramError extends IchorError {
  /** What it said, without what it was given. */
  readonly said: string;
  readonly missing: boolean;

  constructor(message: string, said: string, missing: boolean) {
    super("failed_precondition", message);
    this.said = said;
    this.missing = missing;
  }
}

/**
 * Runs a program to its end and answers what it printed. `input` goes through a pipe, so it may be a secret; it is in no message. Throws
 * `ProgramError`.
 */
export function run(command: string, args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { maxBuffer: Number.POSITIVE_INFINITY }, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      if ((error as { code?: unknown }).code === "ENOENT")
        return reject(
          new ProgramError(
            `--link kernel needs the program ${command}: install ${packages[command] ?? command}, or use --link user, which needs nothing`,
            "",
            true,
          ),
        );
      const secret = input.trim();
      const said = (secret ? stderr.replaceAll(secret, "…") : stderr).trim().replace(/\s*\n\s*/g, "; ");
      reject(new ProgramError(`${command} ${args.join(" ")}: ${said || "failed"}`, said, false));
    });
    // It may end without reading.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
