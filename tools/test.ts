// `./ichor test [unit|e2e|interop|all] [FILE…]`: the suites on Node's own runner. Without a word: check, unit and e2e. `interop` is others' programs
// against ours; what a machine lacks (Go, root, a TUN device, Chromium) is skipped with the reason.
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";

const suites: Record<string, string[]> = {
  unit: ["src/**/*.test.ts", "test/architecture/*.test.ts"],
  e2e: ["test/e2e/**/*.test.ts"],
  interop: ["test/interop/**/*.test.ts"],
};

const words = process.argv.slice(2);
const files = words.filter((word) => word.includes(".test."));
const named = words.filter((word) => !files.includes(word));
const wanted = named.includes("all") ? Object.keys(suites) : named;
for (const name of wanted) {
  if (!(name in suites)) {
    console.error(`ichor test: there is no suite "${name}"; there are unit, e2e, interop and all, or name a file`);
    process.exit(2);
  }
}

const run = (command: string, args: string[]) => spawnSync(command, args, { stdio: "inherit" }).status ?? 1;
if (words.length === 0 && run(process.execPath, ["tools/check.ts"]) !== 0) process.exit(1);
const picked = files.length
  ? files
  : (wanted.length ? wanted : ["unit", "e2e"]).flatMap((name) => globSync(suites[name] ?? []));
// Others' programs take minutes to build, which no test has.
if (picked.some((file) => file.startsWith("test/interop/"))) run(process.execPath, ["test/interop/build.ts"]);
// End-to-end suites start planes and browsers of their own: two at a time is what two cores carry.
const options = [
  "--test",
  "--test-concurrency=2",
  "--test-timeout=300000",
  "--test-reporter=spec",
  "--disable-warning=ExperimentalWarning",
];
process.exit(run(process.execPath, [...options, ...picked.sort()]));
