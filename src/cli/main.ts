import { CommanderError } from "commander";
import { program } from "./program.ts";

try {
  await program.parseAsync();
} catch (error) {
  // Commander has already told the person what was wrong.
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
