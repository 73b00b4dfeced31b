// `npm run check`: types, lint and format, architecture tests. Stops at the first that fails.
import { spawnSync } from "node:child_process";

const steps: [name: string, command: string, ...args: string[]][] = [
  ["types", "node_modules/.bin/tsc", "-p", "."],
  ["console types", "node_modules/.bin/tsc", "-p", "web"],
  ["lint and format", "node_modules/.bin/biome", "check", "."],
  ["architecture", process.execPath, "--test", "test/architecture/*.test.ts"],
];

for (const [name, command, ...args] of steps) {
  const { status } = spawnSync(command, args, { stdio: "inherit" });
  console.log(`${status === 0 ? "ok  " : "FAIL"} ${name}`);
  if (status !== 0) process.exit(1);
}
