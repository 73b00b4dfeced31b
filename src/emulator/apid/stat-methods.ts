import type { ServiceImpl } from "@connectrpc/connect";
import type { Boot } from "#emulator/boot.ts";
import { type Service, timestamp } from "#emulator/services.ts";
import type { MachineService } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** What a machine tells of its load and its parts. Numbers grow with its uptime, so that rates can be seen. */
export const statMethods: Partial<ServiceImpl<typeof MachineService>> = {
  hostname(_, context) {
    return { messages: [{ hostname: bootOf(context).hostname }] };
  },
  memory(_, context) {
    const { total, used } = memory(bootOf(context));
    const kib = (bytes: number) => BigInt(Math.round(bytes / 1024));
    return {
      messages: [
        {
          meminfo: {
            memtotal: kib(total),
            memfree: kib((total - used) * 0.7),
            memavailable: kib(total - used),
            buffers: kib(total * 0.002),
            cached: kib(used * 0.4),
          },
        },
      ],
    };
  },
  cPUInfo(_, context) {
    const { cpu } = bootOf(context).chassis.hardware.board;
    return {
      messages: [
        {
          cpuInfo: Array.from({ length: cpu.threads }, (_item, processor) => ({
            processor,
            vendorId: cpu.vendorId,
            modelName: cpu.product,
            cpuMhz: cpu.speed * 0.6,
            physicalId: "0",
            siblings: cpu.threads,
            coreId: String(Math.floor((processor * cpu.cores) / cpu.threads)),
            cpuCores: cpu.cores,
            bogoMips: cpu.speed * 2,
            flags: ["fpu", "sse4_2", "aes", "avx2", "sha_ni"],
          })),
        },
      ],
    };
  },
  loadAvg(_, context) {
    const busy = bootOf(context).services.list().length / 12;
    return { messages: [{ load1: 0.12 + busy * 0.4, load5: 0.1 + busy * 0.35, load15: 0.08 + busy * 0.3 }] };
  },
  systemStat(_, context) {
    const boot = bootOf(context);
    const { threads } = boot.chassis.hardware.board.cpu;
    const seconds = uptime(boot);
    const one = { user: seconds * 0.04, system: seconds * 0.02, idle: seconds * 0.93, iowait: seconds * 0.01 };
    return {
      messages: [
        {
          bootTime: BigInt(Math.floor(boot.started / 1000)),
          cpuTotal: {
            user: one.user * threads,
            system: one.system * threads,
            idle: one.idle * threads,
            iowait: one.iowait * threads,
          },
          cpu: Array.from({ length: threads }, () => one),
          contextSwitches: BigInt(Math.floor(seconds * 9000)),
          processCreated: BigInt(200 + Math.floor(seconds)),
          processRunning: 1n,
        },
      ],
    };
  },
  networkDeviceStats(_, context) {
    const boot = bootOf(context);
    const seconds = uptime(boot);
    const device = (name: string, rate: number) => ({
      name,
      rxBytes: BigInt(Math.floor(seconds * rate * 3)),
      rxPackets: BigInt(Math.floor(seconds * rate * 0.004)),
      txBytes: BigInt(Math.floor(seconds * rate)),
      txPackets: BigInt(Math.floor(seconds * rate * 0.003)),
    });
    const devices = [
      device("lo", 2000),
      ...boot.chassis.hardware.cards.map((card) => device(card.link, card.up ? 4000 : 0)),
    ];
    if (boot.link) devices.push(device(boot.link.name, 900));
    return { messages: [{ total: device("", 6900), devices }] };
  },
  diskStats(_, context) {
    const boot = bootOf(context);
    const seconds = uptime(boot);
    const devices = boot.chassis.hardware.disks.map((disk) => ({
      name: disk.name,
      readCompleted: BigInt(Math.floor(4000 + seconds * 2)),
      readSectors: BigInt(Math.floor(320_000 + seconds * 30)),
      writeCompleted: BigInt(Math.floor(seconds * 9)),
      writeSectors: BigInt(Math.floor(seconds * 160)),
    }));
    return { messages: [{ total: { ...devices[0], name: "" }, devices }] };
  },
  mounts(_, context) {
    const { disk, hardware } = bootOf(context).chassis;
    const system = hardware.disks.find((candidate) => candidate.path === disk.installed?.disk);
    const stats = [{ filesystem: "overlay", size: 0n, available: 0n, mountedOn: "/" }];
    if (system) {
      const size = BigInt(system.bytes) - 3_000_000_000n;
      stats.push({ filesystem: `${system.path}p4`, size, available: (size * 9n) / 10n, mountedOn: "/var" });
      stats.push({
        filesystem: `${system.path}p3`,
        size: 92_274_688n,
        available: 86_000_000n,
        mountedOn: "/system/state",
      });
    }
    return { messages: [{ stats }] };
  },
  processes(_, context) {
    const boot = bootOf(context);
    const names = [
      "init",
      ...boot.services
        .list()
        .filter((service) => service.state === "Running")
        .map((service) => service.id),
    ];
    return {
      messages: [
        {
          processes: names.map((command, at) => ({
            pid: at === 0 ? 1 : 900 + at * 37,
            ppid: at === 0 ? 0 : 1,
            state: "S",
            threads: 12,
            cpuTime: uptime(boot) * 0.01,
            virtualMemory: 1_300_000_000n,
            residentMemory: 60_000_000n,
            command,
            executable: at === 0 ? "/usr/bin/init" : `/usr/bin/${command}`,
            args: command,
          })),
        },
      ],
    };
  },
  containers(request, context) {
    const boot = bootOf(context);
    const system = request.namespace === "system" || request.namespace === "";
    const containers = system
      ? boot.services
          .list()
          .filter(
            (service) => service.state === "Running" && ["apid", "trustd", "etcd", "kubelet"].includes(service.id),
          )
          .map((service, at) => ({
            namespace: "system",
            id: service.id,
            image: service.id === "kubelet" ? (boot.config?.kubeletImage ?? "") : `talos/${service.id}`,
            pid: 1200 + at * 31,
            status: "RUNNING",
            podId: service.id,
            name: service.id,
          }))
      : podsOf(boot).map((pod, at) => ({
          namespace: "k8s.io",
          id: `kube-system/${pod}`,
          image: "",
          pid: 3000 + at * 17,
          status: "CONTAINER_RUNNING",
          podId: `kube-system/${pod}`,
          name: pod,
        }));
    return { messages: [{ containers }] };
  },
  stats(request, context) {
    const boot = bootOf(context);
    const names = boot.services
      .list()
      .filter((service) => service.state === "Running")
      .map((service) => service.id);
    return {
      messages: [
        {
          stats: names.map((id) => ({
            namespace: request.namespace,
            id,
            name: id,
            podId: id,
            memoryUsage: 45_000_000n,
            cpuUsage: BigInt(Math.floor(uptime(boot) * 3e7)),
          })),
        },
      ],
    };
  },
  serviceList(_, context) {
    const services = bootOf(context)
      .services.list()
      .map((service) => ({
        id: service.id,
        state: service.state,
        events: {
          events: service.events.map(({ message, state, at }) => ({ msg: message, state, ts: timestamp(at) })),
        },
        health: {
          unknown: service.healthy === undefined,
          healthy: service.healthy ?? false,
          lastMessage: "",
          lastChange: timestamp(service.changed),
        },
      }));
    return { messages: [{ services }] };
  },
  serviceStart(request, context) {
    const boot = bootOf(context);
    if (needService(boot, request.id).state !== "Running") {
      allow(request.id, "start");
      boot.services.run(request.id);
    }
    return { messages: [{ resp: `Service "${request.id}" started` }] };
  },
  serviceStop(request, context) {
    const boot = bootOf(context);
    if (needService(boot, request.id).state === "Running") allow(request.id, "stop");
    return { messages: [{ resp: `Service "${request.id}" stopped` }] };
  },
  serviceRestart(request, context) {
    const boot = bootOf(context);
    needService(boot, request.id);
    allow(request.id, "restart");
    boot.services.set(request.id, "Finished", "Service finished successfully");
    boot.services.run(request.id);
    return { messages: [{ resp: `Service "${request.id}" restarted` }] };
  },
};

function needService(boot: Boot, id: string): Service {
  const service = boot.services.get(id);
  if (!service) throw new IchorError("not_found", `service "${id}" not registered`);
  return service;
}

/** Of Talos' own services only the kubelet takes orders; extension services, which would too, are not there. */
function allow(id: string, operation: "start" | "stop" | "restart"): void {
  if (id !== "kubelet" || operation === "stop")
    throw new IchorError("unknown", `service "${id}" doesn't support ${operation} operation via API`);
}

function podsOf(boot: Boot): string[] {
  const pods = boot.cluster?.objects.list("/pods") ?? [];
  return pods
    .filter((pod) => (pod.spec as { nodeName?: string } | undefined)?.nodeName === boot.hostname)
    .map((pod) => pod.metadata.name);
}

/** Seconds since the boot. */
export function uptime(boot: Boot): number {
  return Math.max(1, (boot.chassis.clock.now() - boot.started) / 1000);
}

function memory(boot: Boot): { total: number; used: number } {
  const total = boot.chassis.hardware.memory.reduce((sum, module) => sum + module.mib, 0) * (1 << 20) * 0.97;
  return { total, used: Math.min(total * 0.8, 450e6 + boot.services.list().length * 60e6) };
}
