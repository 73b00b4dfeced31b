import { CommanderError } from "commander";
import { program } from "./program.ts";

// Whoever reads may have seen enough, as `head` does.
for (const stream of [process.stdout, process.stderr])
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit(process.exitCode ?? 0);
  });

try {
  await program.parseAsync();
} catch (error) {
  // Commander has already told the person what was wrong.
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
