import { enableCompileCache } from "node:module";
import { fileURLToPath } from "node:url";
import { CommanderError } from "commander";

// More than half of a command's time goes into stripping types and compiling. Not in the directory for temporary files: what others may
// write there would be run here. Where it cannot be written, nothing is kept.
enableCompileCache(fileURLToPath(new URL("../../node_modules/.cache/ichor", import.meta.url)));
const { program } = await import("./program.ts");

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
