import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { IchorError } from "#lib/errors.ts";
import { knownVersions } from "#talos/compatibility.ts";
import { applyPlan } from "#template/apply.ts";
import { planSync } from "#template/plan.ts";
import { waitForMachines } from "./joined.ts";
import { say } from "./output.ts";
import type { Plane } from "./plane.ts";
import { showProgress } from "./progress.ts";
import { localSource } from "./template-source.ts";

const controlPlanes = 3;
const workers = 2;

/** What the demo runs on. */
export interface Demo {
  readonly client: Plane;
  readonly data: string;
  readonly signal: AbortSignal;
}

/**
 * Boots an emulated site in a process of its own, waits until it has joined, and applies an example template to it. What was done in an
 * earlier run is not done again. When the cluster is Running, answers the name of one of its control planes; the site ends with this process.
 */
export async function runDemo({ client, data, signal }: Demo): Promise<string> {
  const count = controlPlanes + workers;
  const { kernelArgs } = await client.management.getMachineJoinConfig({});
  say(`demo: booting ${count} emulated machines`);
  const machines = await startSite(kernelArgs, join(data, "demo"), count, signal);
  const tell = (joined: number) => say(`demo: ${joined}/${count} machines joined`);
  await waitForMachines(client, { count, of: machines }, tell, signal);
  const file = join(data, "demo.yaml");
  if (!existsSync(file)) writeFileSync(file, exampleTemplate(machines));
  if (!(await client.state.get(ClusterKind, "demo"))) {
    say(`demo: applying the template ${file}`);
    const { template, wanted } = localSource.read(file);
    const plan = await planSync(template.cluster.value.name, wanted, client.state);
    await applyPlan(plan, client.state, () => {}, signal);
  }
  await showProgress({ plane: client, json: false, data, signal }, "demo", { wait: true });
  const statuses = await client.state.list(MachineStatusKind);
  const member = statuses.find(
    ({ spec }) => spec.cluster === "demo" && spec.role === MachineStatusSpec_Role.CONTROL_PLANE,
  );
  return member?.spec.network?.hostname || member?.metadata.id || "";
}

async function startSite(kernelArgs: readonly string[], state: string, count: number, signal: AbortSignal) {
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const main = fileURLToPath(new URL("./main.ts", import.meta.url));
  const args = ["emulate", "--count", String(count), "--kernel-args", "-", "--state", state];
  // The arguments hold the join token: they go by a pipe, not on the command line, where everybody on this machine reads them.
  const child: ChildProcess = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], {
    stdio: ["pipe", "ignore", "inherit", "ipc"],
  });
  child.stdin?.end(kernelArgs.join(" "));
  signal.addEventListener("abort", () => child.kill("SIGTERM"), { once: true });
  return new Promise<string[]>((resolve, reject) => {
    child.once("message", (message) => resolve((message as { machines: string[] }).machines));
    child.once("exit", (code) => {
      if (!signal.aborted) reject(new IchorError("unavailable", `the emulated site ended with code ${code}`));
    });
  });
}

function exampleTemplate(machines: readonly string[]): string {
  const newest = knownVersions().at(-1);
  const list = (ids: readonly string[]) => ids.map((id) => `  - ${id}`).join("\n");
  return `# The demo cluster. Change it, then: ichor template sync demo.yaml
kind: Cluster
name: demo
kubernetes:
  version: v${newest?.kubernetes.at(-1)}
talos:
  version: v${newest?.talos}
---
kind: ControlPlane
machines:
${list(machines.slice(0, controlPlanes))}
---
kind: Workers
name: workers
machines:
${list(machines.slice(controlPlanes))}
`;
}
