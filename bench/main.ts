// `npm run bench [NAME…]`: prints tables. Without a name all of them, one after the other, so that none disturbs another.
import { globSync } from "node:fs";
import { basename } from "node:path";

const all = globSync("bench/*.ts")
  .map((file) => basename(file, ".ts"))
  .filter((name) => name !== "main" && name !== "table")
  .sort();
const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!all.includes(name)) {
    console.error(`bench: there is no "${name}"; there are ${all.join(", ")}`);
    process.exit(2);
  }
}
for (const name of wanted.length ? wanted : all) {
  console.log(`\n== ${name}`);
  const { run } = (await import(`./${name}.ts`)) as { run: () => Promise<void> };
  await run();
}
process.exit(0);
