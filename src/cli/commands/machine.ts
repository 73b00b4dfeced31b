import type { Command } from "commander";
import { confirm, type Invocation, noun, verb } from "#cli/command.ts";
import { waitForMachines } from "#cli/joined.ts";
import { age, answer, print, printJson, say } from "#cli/output.ts";
import { milliseconds } from "#cli/progress.ts";
import type { MachineDetailsSpec } from "#gen/ichor/v1/ichor_pb.ts";
import type { MachineStatusSpec } from "#gen/specs/specs_pb.ts";
import { label } from "#kinds/labels.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineServicesKind } from "#kinds/machine/machine-services.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { IchorError } from "#lib/errors.ts";
import type { Resource } from "#resource/resource.ts";

interface Row {
  id: string;
  connected: boolean;
  hostname: string;
  cluster: string;
  stage: string;
  talosVersion: string;
  address: string;
  hardware: string;
  created: number;
}

async function rows({ plane }: Invocation): Promise<Row[]> {
  const [machines, statuses, details] = await Promise.all([
    plane.state.list(MachineKind),
    plane.state.list(MachineStatusKind),
    plane.state.list(MachineDetailsKind),
  ]);
  const byId = new Map(statuses.map((status) => [status.metadata.id, status]));
  const detailsById = new Map(details.map((detail) => [detail.metadata.id, detail]));
  return machines.map(({ metadata, spec }) => {
    const status = byId.get(metadata.id);
    return {
      id: metadata.id,
      connected: spec.connected,
      hostname: status?.spec.network?.hostname ?? "",
      cluster: status?.spec.cluster ?? "",
      stage: stageOf(status, detailsById.get(metadata.id)),
      talosVersion: status?.spec.talosVersion ?? "",
      address: spec.managementAddress,
      hardware: hardwareOf(status?.metadata.labels ?? {}),
      created: metadata.created,
    };
  });
}

function stageOf(status?: Resource<MachineStatusSpec>, details?: Resource<MachineDetailsSpec>): string {
  return details?.spec.stage || (status?.spec.maintenance ? "maintenance" : "");
}

function hardwareOf(labels: Readonly<Record<string, string>>): string {
  return [labels[label.cores] && `${labels[label.cores]} cores`, labels[label.mem], labels[label.storage]]
    .filter(Boolean)
    .join(", ");
}

function memoryOf(spec: MachineStatusSpec | undefined): string | undefined {
  const modules = spec?.hardware?.memoryModules ?? [];
  const total = modules.reduce((sum, { sizeMb }) => sum + sizeMb, 0);
  return total > 0 ? `${total / 1024} GiB in ${modules.length} modules` : undefined;
}

function securityOf(spec: MachineStatusSpec | undefined): string | undefined {
  const state = spec?.securityState;
  if (!state) return undefined;
  return `SecureBoot ${state.secureBoot ? "on" : "off"}, booted ${state.bootedWithUki ? "with" : "without"} a unified kernel image`;
}

const list = verb("list", "machines that joined", async (invocation) => {
  answer(await rows(invocation), {
    json: invocation.json,
    toJson: (row) => ({ ...row, created: new Date(row.created).toISOString() }),
    empty: 'No machine has joined yet. "ichor join" shows the kernel arguments to boot one with.',
    columns: [
      ["ID", (row) => row.id],
      ["CONNECTED", (row) => (row.connected ? "yes" : "no")],
      ["HOSTNAME", (row) => row.hostname],
      ["CLUSTER", (row) => row.cluster],
      ["STAGE", (row) => row.stage],
      ["TALOS", (row) => row.talosVersion],
      ["HARDWARE", (row) => row.hardware],
      ["AGE", (row) => age(row.created)],
    ],
  });
});

const get = verb("get <id>", "one machine: hardware, network, services", async ({ plane, json }, _options, id = "") => {
  const machine = await plane.state.get(MachineKind, id);
  if (!machine) throw new IchorError("not_found", `there is no machine "${id}"; see: ichor machine list`);
  const [status, services, details] = await Promise.all([
    plane.state.get(MachineStatusKind, id),
    plane.state.get(MachineServicesKind, id),
    plane.state.get(MachineDetailsKind, id),
  ]);
  if (json) {
    printJson({
      id,
      connected: machine.spec.connected,
      status: status?.spec,
      services: services?.spec.services,
      details: details?.spec,
    });
    return;
  }
  const lines: [string, string | undefined][] = [
    ["machine", id],
    ["connected", machine.spec.connected ? "yes" : "no"],
    ["address", machine.spec.managementAddress],
    ["hostname", status?.spec.network?.hostname],
    ["stage", stageOf(status, details)],
    ["cluster", status?.spec.cluster],
    ["Talos", status?.spec.talosVersion],
    [
      "hardware",
      [details?.spec.manufacturer, details?.spec.productName, details?.spec.serialNumber].filter(Boolean).join(" "),
    ],
    ["addresses", status?.spec.network?.addresses.join(", ")],
    ["gateways", status?.spec.network?.defaultGateways.join(", ")],
    ["extensions", status?.spec.schematic?.extensions.join(", ")],
    ["security", securityOf(status?.spec)],
    ...(status?.spec.hardware?.processors ?? []).map((cpu): [string, string] => [
      "processor",
      `${cpu.description}, ${cpu.threadCount} threads`,
    ]),
    ["memory", memoryOf(status?.spec)],
    ...(status?.spec.network?.networkLinks ?? []).map((link): [string, string] => [
      "link",
      `${link.linuxName} ${link.hardwareAddress} ${link.linkUp ? `up${link.speedMbps ? `, ${link.speedMbps} Mbit/s` : ""}` : "down"}, ${link.description}`,
    ]),
    ...(status?.spec.hardware?.blockdevices ?? []).map((disk): [string, string] => [
      "disk",
      `${disk.linuxName} ${disk.model} ${(Number(disk.size) / 1e9).toFixed(0)} GB${disk.systemDisk ? ", system disk" : ""}`,
    ]),
    ...(services?.spec.services ?? []).map((service): [string, string] => [
      "service",
      `${service.name}: ${service.running ? "running" : "stopped"}${service.unknown ? "" : service.healthy ? ", healthy" : ", unhealthy"}`,
    ]),
    ["last error", status?.spec.lastError],
  ];
  for (const [name, value] of lines) if (value) print(`${name.padEnd(12)}${value}`);
});

const logs = verb<{ follow?: boolean; tail?: string }>(
  "logs <id>",
  "kernel and service log of a machine",
  async ({ plane, signal }, options, id = "") => {
    const request = {
      machineId: id,
      follow: options.follow ?? false,
      tailLines: options.tail ? Number(options.tail) : -1,
    };
    try {
      for await (const { bytes } of plane.management.machineLogs(request, { signal })) {
        process.stdout.write(bytes.at(-1) === 10 ? bytes : Buffer.concat([bytes, Buffer.from("\n")]));
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  },
)
  .option("-f, --follow", "go on as lines come")
  .option("--tail <lines>", "only the last lines");

const wait = verb<{ count: string; timeout?: string }>(
  "wait",
  "stay until that many machines have joined and told their hardware",
  async (invocation, options) => {
    const count = Number(options.count);
    if (!Number.isInteger(count) || count < 1)
      throw new IchorError("invalid_argument", `--count: "${options.count}" is not a number from 1 on`);
    const late = options.timeout ? AbortSignal.timeout(milliseconds(options.timeout)) : undefined;
    const { plane, signal } = invocation;
    let last = 0;
    const tell = (joined: number) => {
      last = joined;
      say(`${joined}/${count} machines joined`);
    };
    try {
      await waitForMachines(plane, { count }, tell, late ? AbortSignal.any([signal, late]) : signal);
    } catch (error) {
      if (!late?.aborted || signal.aborted) throw error;
      throw new IchorError("deadline_exceeded", `${last} of ${count} machines have joined after ${options.timeout}`);
    }
  },
)
  .requiredOption("--count <n>", "how many")
  .option("--timeout <duration>", "give up after that long, such as 10m");

const forget = verb<{ yes?: boolean }>(
  "forget <id>",
  "remove a machine from the plane, connected or not",
  async ({ plane, signal }, options, id = "") => {
    if (!(await plane.state.get(LinkKind, id)))
      throw new IchorError("not_found", `there is no machine "${id}"; see: ichor machine list`);
    await confirm(`Forget machine ${id}? It can join again only with a valid join token.`, options.yes);
    await plane.state.teardown(LinkKind, id);
    await plane.state.destroyWhenFree(LinkKind, id, signal);
    say(`Machine ${id} is forgotten.`);
  },
).option("--yes", "do not ask");

/** `ichor machine …` */
export const machine: Command = noun("machine", "machines that joined")
  .addCommand(list)
  .addCommand(get)
  .addCommand(logs)
  .addCommand(wait)
  .addCommand(forget);
