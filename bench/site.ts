import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { TestPlane, template } from "../test/e2e/harness.ts";

/** The emulated 3+2 site from `template sync` to Running, emulated delays at zero. */
export async function run(): Promise<void> {
  const plane = new TestPlane("bench-site");
  try {
    await plane.start();
    const machines = await plane.emulate(5);
    await plane.cli("machine", "wait", "--count", "5", "--timeout", "2m");
    const file = join(plane.data, "site.yaml");
    writeFileSync(file, template("site", machines.slice(0, 3), machines.slice(3)));
    const started = performance.now();
    const { code, stderr } = await plane.cli("template", "sync", file, "--wait", "--timeout", "5m");
    if (code !== 0) throw new Error(stderr);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.table({ "3+2 machines from template sync to Running, s": { measured: seconds, wanted: "10" } });
  } finally {
    await plane.stop();
  }
}
