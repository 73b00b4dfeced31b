import { readFileSync } from "node:fs";
import { TestPlane } from "../test/e2e/harness.ts";

const count = Number(process.env.ICHOR_BENCH_MACHINES ?? 300);

/** Emulated machines from first packet to full inventory, and what they cost the plane, working and idle. */
export async function run(): Promise<void> {
  const plane = new TestPlane("bench-fleet");
  try {
    await plane.start();
    const before = usage(plane.pid);
    const started = performance.now();
    await plane.emulate(count);
    const { code, stderr } = await plane.cli("machine", "wait", "--count", String(count), "--timeout", "10m");
    if (code !== 0) throw new Error(stderr);
    const joined = performance.now() - started;
    await idle(10_000);
    const quiet = usage(plane.pid);
    const watched = 30_000;
    await idle(watched);
    const after = usage(plane.pid);
    console.table({
      "machines from first packet to full inventory, s": row((joined / 1000).toFixed(1), "60 for 300 on 2 cores"),
      "plane before the first machine, MiB": row(before.mebibytes.toFixed(0), "150"),
      "plane a machine, MiB": row(((after.mebibytes - before.mebibytes) / count).toFixed(2), "1 (the incumbent: 2.2)"),
      "an idle machine, % of a core": row(
        (((after.cpuSeconds - quiet.cpuSeconds) / (watched / 1000) / count) * 100).toFixed(3),
        "(the incumbent: 0.05)",
      ),
    });
  } finally {
    await plane.stop();
  }
}

function row(measured: string, wanted: string) {
  return { measured, wanted };
}

/** Resident memory and processor time of a process so far. */
function usage(pid: number): { mebibytes: number; cpuSeconds: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  const ticks = Number(stat[11]) + Number(stat[12]);
  return { mebibytes: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024, cpuSeconds: ticks / 100 };
}

/** A bench measures over time: here, and only here, time is what is waited for. */
function idle(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
