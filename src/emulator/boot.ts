// One piece, though long: every method reads or changes the same memory of a running machine, which ends as a whole with the boot.
import { randomUUID } from "node:crypto";
import type { Duplex } from "node:stream";
import type { SecureContext } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { ErrorSchema } from "#gen/common/common_pb.ts";
import {
  AddressEventSchema,
  MachineStatusEventSchema,
  PhaseEvent_Action,
  PhaseEventSchema,
  SequenceEvent_Action,
  SequenceEventSchema,
  TaskEvent_Action,
  TaskEventSchema,
} from "#gen/machine/machine_pb.ts";
import { sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { parseIP } from "#lib/ip.ts";
import type { Logger } from "#lib/log.ts";
import type { Cluster, Clusters } from "./cluster.ts";
import {
  type ConfigView,
  mergeDocuments,
  newNodeId,
  stableHostname,
  viewConfig,
  viewDocuments,
} from "./config/view.ts";
import type { Delays } from "./delays.ts";
import { type DiskState, metaKeys } from "./disk.ts";
import { fillHardware, fillNetwork } from "./facts.ts";
import type { Hardware } from "./hardware/hardware.ts";
import { type KernelArguments, parseApiUrl } from "./join/arguments.ts";
import { EventRing, sendEvents } from "./join/events.ts";
import type { Joiner } from "./join/joiner.ts";
import { KernelLog, sendKernelLog } from "./join/kernel-log.ts";
import type { Knobs } from "./knobs.ts";
import { type Network, ports } from "./network.ts";
import { Services } from "./services.ts";
import { Collection } from "./state/collection.ts";
import { types } from "./state/types.ts";
import type { Release } from "./versions.ts";

/** Numbers of protocols.md 4.2. */
export const stages = {
  booting: 1,
  installing: 2,
  maintenance: 3,
  running: 4,
  rebooting: 5,
  shuttingDown: 6,
  resetting: 7,
  upgrading: 8,
} as const;
/** A stage of a machine. */
export type Stage = keyof typeof stages;

/** How a boot ended. */
export type Ending = "reboot" | "shutdown" | "power-loss";

/** How a connection to apid is answered: undefined verifies no client (maintenance). */
export interface ApidTls {
  readonly context: SecureContext;
  /** PEMs of the authorities that client certificates must chain to. */
  readonly clientCAs: readonly string[] | undefined;
}

/** What a boot gets from its machine: all that outlives it. */
export interface Chassis {
  readonly hardware: Hardware;
  readonly disk: DiskState;
  readonly release: Release;
  readonly args: KernelArguments;
  readonly schematic: string;
  readonly extensions: readonly { readonly name: string; readonly version: string; readonly description: string }[];
  readonly knobs: Knobs;
  readonly delays: Delays;
  readonly clock: Clock;
  readonly log: Logger;
  readonly clusters: Clusters;
  readonly joiner: Joiner;
  /** Serves one connection to apid. */
  serveApid(boot: Boot, stream: Duplex, remoteAddress: string): void;
  /** The disk state changed. */
  save(): void;
}

/** One boot of a machine, from power on to the next reboot: everything in memory is here and goes with it. */
export class Boot {
  readonly chassis: Chassis;
  readonly bootId: string;
  readonly started: number;
  readonly events: EventRing;
  readonly kernel: KernelLog;
  readonly state: Collection;
  readonly services: Services;
  /** META as loaded; flushed to disk only when Talos is installed. */
  readonly meta: Map<number, string>;
  readonly signal: AbortSignal;
  /** Ended with the boot, after its services. */
  readonly #controller = new AbortController();
  readonly #ended = Promise.withResolvers<Ending>();
  #configured = Promise.withResolvers<void>();
  #ending: Ending | undefined;
  #networkEnd: AbortController | undefined;
  #rejoin: (() => void) | undefined;
  network: Network | undefined;
  link: { readonly name: string; readonly tunnel: boolean } | undefined;
  /** The configuration in force, complete or partial. */
  config: ConfigView | undefined;
  cluster: Cluster | undefined;
  apidTls: ApidTls | undefined;
  /** A sequence runs: others are refused meanwhile. */
  busy: string | undefined;
  stage: Stage = "booting";
  /** What keeps it from being ready: condition name to reason. */
  readonly unmet = new Map<string, string>();
  /** Called for each new network: services that listen inside the link. */
  readonly onNetwork = new Set<(network: Network, signal: AbortSignal) => void>();
  /** Called after each change of the configuration in force. */
  readonly onConfig = new Set<() => void>();

  constructor(chassis: Chassis) {
    const { clock } = chassis;
    this.chassis = chassis;
    this.bootId = randomUUID();
    this.started = clock.now();
    this.signal = this.#controller.signal;
    this.events = new EventRing(clock);
    this.kernel = new KernelLog(clock);
    this.state = new Collection(clock);
    this.meta = new Map(Object.entries(chassis.disk.meta).map(([key, value]) => [Number(key), value]));
    this.services = new Services({
      clock,
      events: this.events,
      state: this.state,
      note: (line) => this.kernel.talos(line),
    });
  }

  get uuid(): string {
    return this.meta.get(metaKeys.uuidOverride) || this.chassis.hardware.uuid;
  }
  get uniqueToken(): string {
    return this.meta.get(metaKeys.uniqueToken) || this.config?.siderolink?.uniqueToken || "";
  }
  get hostname(): string {
    return this.config?.hostname || stableHostname(this.uuid);
  }
  get maintenance(): boolean {
    return !this.config?.complete;
  }
  /** Wall clock of this machine, which may be wrong. */
  now(): number {
    return this.chassis.clock.now() + (this.chassis.knobs.clockOffset ?? 0);
  }
  get ended(): Promise<Ending> {
    return this.#ended.promise;
  }
  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** Ends this boot; later calls do nothing. */
  end(ending: Ending): void {
    if (this.#ending) return;
    this.#ending = ending;
    this.#networkEnd?.abort(new Error("machine is down"));
    this.#controller.abort(new Error("machine is down"));
    this.#ended.resolve(ending);
  }

  /** Lets the last events leave, as a real machine does before it goes down. */
  async drain(): Promise<void> {
    const { clock, delays } = this.chassis;
    await sleep(delays.grace, clock, this.signal);
    if (!this.network || !this.#sinks().eventSink) return;
    const enough = new AbortController();
    const timer = clock.after(delays.drain, () => enough.abort(new Error("the event sink does not answer")));
    await this.events.drained(AbortSignal.any([this.signal, enough.signal])).catch(() => {});
    timer.cancel();
  }

  /** Stores disk content and META. */
  flush(): void {
    const { disk } = this.chassis;
    if (disk.installed) disk.meta = Object.fromEntries([...this.meta].map(([key, value]) => [String(key), value]));
    this.chassis.save();
  }

  /** Firmware to network: what a machine does whatever its configuration. */
  async initialize(): Promise<void> {
    const { clock, delays, disk, hardware, release, args } = this.chassis;
    await sleep(delays.firmware, clock, this.signal);
    const cmdline = [
      ...args.rest,
      ...(args.siderolink ? [`siderolink.api=${args.siderolink}`] : []),
      ...(args.eventSink ? [`talos.events.sink=${args.eventSink}`] : []),
      ...args.kmsg.map((url) => `talos.logging.kernel=${url}`),
    ].join(" ");
    this.kernel.write(
      `Linux version ${release.kernel} (@buildkitsandbox) (gcc) #1 SMP PREEMPT_DYNAMIC`,
      "kern",
      "notice",
    );
    this.kernel.write(`Command line: ${cmdline}`, "kern");
    this.kernel.write(
      `DMI: ${hardware.board.manufacturer} ${hardware.board.product}, BIOS ${hardware.board.bios}`,
      "kern",
    );
    for (const found of hardware.disks)
      this.kernel.write(`${found.name}: ${found.model} ${found.bytes / 512} 512-byte logical blocks`, "kern");
    this.kernel.talos(`initialize sequence: ${args.rest.length} kernel arguments`);
    fillHardware(this.state, {
      hardware,
      tag: release.tag,
      minor: release.minor,
      uuid: this.uuid,
      cmdline,
      bootId: this.bootId,
      schematic: disk.installed?.schematic ?? this.chassis.schematic,
      extensions: this.chassis.extensions,
      installedDisk: disk.installed?.disk,
    });
    this.setStage("booting");
    this.services.run("machined", true);
    await this.sequence("initialize", async () => {
      await this.phase("systemRequirements", ["enforceKSPPRequirements", "setupSystemDirectory", "setRLimit"]);
      await this.phase("integrity", ["writeIMAPolicy"]);
      await this.phase("etc", ["CreateSystemCgroups", "createOSReleaseFile"]);
    });
    this.#loadConfig();
    for (const [key, value] of this.meta) this.state.put(types.metaKey, metaId(key), { value });
    this.state.put(types.metaLoaded, "meta-loaded", { done: true });
    this.state.put(types.uniqueToken, "unique-machine-token", { token: this.uniqueToken });
    this.services.run("udevd");
    await sleep(delays.network, clock, this.signal);
    this.#networkUp();
    this.#startJoin();
  }

  /** Waits until a complete configuration is in force. */
  async configured(): Promise<void> {
    if (this.config?.complete) return;
    const { promise } = this.#configured;
    const aborted = Promise.withResolvers<never>();
    const stop = () => aborted.reject(this.signal.reason);
    this.signal.addEventListener("abort", stop, { once: true });
    try {
      await Promise.race([promise, aborted.promise]);
    } finally {
      this.signal.removeEventListener("abort", stop);
    }
  }

  /** Puts a configuration in force now. A partial one is added to what is there. */
  adoptConfig(config: ConfigView): void {
    const before = this.config;
    this.config = config.complete
      ? config
      : viewDocuments(
          mergeDocuments(before?.documents ?? [], config.documents),
          [before?.text ?? "", config.text].filter(Boolean).join("\n---\n"),
        );
    this.#showConfig();
    this.hostnameChanged();
    if (
      before?.siderolink?.url !== this.config.siderolink?.url ||
      before?.siderolink?.uniqueToken !== this.config.siderolink?.uniqueToken
    )
      this.#rejoin?.();
    if (before?.eventSink !== this.config.eventSink || String(before?.kmsg) !== String(this.config.kmsg))
      this.#restartSinks();
    if (this.config.complete) this.#configured.resolve();
    for (const changed of this.onConfig) changed();
  }

  /** META changed: show it, and provision again where it is part of the identity. */
  setMeta(key: number, value: string | undefined): boolean {
    const old = this.meta.get(key);
    if (value === undefined) {
      if (old === undefined) return false;
      this.meta.delete(key);
      this.state.remove(types.metaKey, metaId(key));
    } else {
      this.meta.set(key, value);
      this.state.put(types.metaKey, metaId(key), { value });
    }
    this.flush();
    this.state.put(types.uniqueToken, "unique-machine-token", { token: this.uniqueToken });
    if (old !== value && (key === metaKeys.uuidOverride || key === metaKeys.uniqueToken)) this.#rejoin?.();
    return true;
  }

  setStage(stage: Stage): void {
    this.stage = stage;
    this.tellStatus();
  }
  /** Sets or (reason undefined) removes a reason for not being ready. */
  setUnmet(name: string, reason: string | undefined): void {
    if (this.unmet.get(name) === reason) return;
    if (reason === undefined) this.unmet.delete(name);
    else this.unmet.set(name, reason);
    this.tellStatus();
  }
  /** Publishes stage and readiness as event and resource. */
  tellStatus(): void {
    const inBoot = this.stage === "booting" || this.stage === "running";
    const unmetConditions = inBoot ? [...this.unmet].map(([name, reason]) => ({ name, reason })) : [];
    const ready = (this.stage === "running" || this.stage === "maintenance") && unmetConditions.length === 0;
    const status = { ready, unmetConditions };
    this.events.publish(MachineStatusEventSchema, { stage: stages[this.stage], status });
    this.state.put(types.machineStatus, "machine", { stage: stages[this.stage], status });
  }

  /** Runs a sequence with its events. Throws what `body` throws, after telling. */
  async sequence(name: string, body: () => Promise<void>, actor = ""): Promise<void> {
    this.kernel.talos(`${name} sequence: started`);
    this.events.publish(SequenceEventSchema, { sequence: name, action: SequenceEvent_Action.START }, actor);
    try {
      await body();
    } catch (error) {
      if (!this.signal.aborted) {
        const text = error instanceof Error ? error.message : String(error);
        this.kernel.write(`[talos] ${name} sequence: failed: ${text}`, "user", "err");
        this.events.publish(
          SequenceEventSchema,
          { sequence: name, action: SequenceEvent_Action.NOOP, error: create(ErrorSchema, { code: 0, message: text }) },
          actor,
        );
      }
      throw error;
    }
    this.events.publish(SequenceEventSchema, { sequence: name, action: SequenceEvent_Action.STOP }, actor);
    this.kernel.talos(`${name} sequence: done`);
  }
  async phase(phase: string, tasks: readonly string[], body?: () => Promise<void>): Promise<void> {
    this.events.publish(PhaseEventSchema, { phase, action: PhaseEvent_Action.START });
    for (const task of tasks) this.events.publish(TaskEventSchema, { task, action: TaskEvent_Action.START });
    await sleep(this.chassis.delays.phase, this.chassis.clock, this.signal);
    await body?.();
    for (const task of tasks) this.events.publish(TaskEventSchema, { task, action: TaskEvent_Action.STOP });
    this.events.publish(PhaseEventSchema, { phase, action: PhaseEvent_Action.STOP });
  }

  /** The node id of discovery; made once per STATE partition. */
  nodeId(): string {
    const { disk } = this.chassis;
    disk.nodeId ??= newNodeId();
    this.chassis.save();
    return disk.nodeId;
  }
  /** Tells name and addresses. */
  hostnameChanged(): void {
    this.state.put(types.hostname, "hostname", { hostname: this.hostname });
    this.events.publish(AddressEventSchema, { hostname: this.hostname, addresses: this.addresses() });
  }
  /** Shows the members of its cluster, as discovery would find them. */
  membersChanged(): void {
    const ids = new Set<string>();
    for (const peer of this.cluster?.peers ?? []) {
      ids.add(peer.hostname);
      this.state.put(types.member, peer.hostname, {
        nodeId: peer.nodeId(),
        addresses: peer.addresses().map((ip) => ({ ip: parseIP(ip) })),
        hostname: peer.hostname,
        machineType: peer.config?.controlPlane ? 2 : 3,
        operatingSystem: `Talos (${peer.chassis.release.tag})`,
        ...(peer.config?.controlPlane ? { controlPlane: { apiServerPort: 6443n } } : {}),
      });
    }
    this.state.retain(types.member, ids);
  }
  /** All addresses, the SideroLink one first. */
  addresses(): string[] {
    return [...(this.network ? [this.network.address] : []), this.chassis.hardware.lan.address];
  }

  #loadConfig(): void {
    const { disk } = this.chassis;
    if (disk.staged) {
      disk.config = disk.staged;
      disk.staged = undefined;
      this.chassis.save();
    }
    if (disk.installed && disk.config) this.config = viewConfig(Buffer.from(disk.config));
    this.#showConfig();
  }
  #showConfig(): void {
    const { config } = this;
    if (config) {
      const yaml = (text: string) => ({ yaml: text });
      this.state.put(
        types.config,
        "v1alpha1",
        { yamlMarshalled: Buffer.from(config.text) },
        yaml(`|-\n${config.text.replace(/^/gm, "  ")}`),
      );
      if (config.complete)
        this.state.put(
          types.machineType,
          "machine-type",
          { machineType: config.controlPlane ? 2 : 3 },
          yaml(config.type),
        );
    }
    const { disk } = this.chassis;
    if (disk.config) this.state.put(types.config, "persistent", { yamlMarshalled: Buffer.from(disk.config) });
    const { eventSink, kmsg } = this.#sinks();
    if (eventSink) this.state.put(types.eventSink, "event-sink", { endpoint: eventSink });
    if (kmsg.length > 0)
      this.state.put(types.kmsgLog, "kmsg-log", { destinations: kmsg.map((fullPath) => ({ fullPath })) });
  }
  #networkUp(): void {
    const { hardware, knobs } = this.chassis;
    fillNetwork(this.state, hardware, undefined);
    this.state.put(types.networkStatus, "status", {
      addressReady: true,
      connectivityReady: true,
      hostnameReady: true,
      etcFilesReady: true,
    });
    this.state.put(types.time, "node", { synced: !knobs.clockOffset, epoch: 1n });
    if (knobs.clockOffset) this.setUnmet("time", "time is not synced");
    this.hostnameChanged();
    this.kernel.talos(
      `assigned address {"component": "controller-runtime", "controller": "network.AddressSpecController", "address": "${hardware.lan.address}/24"}`,
    );
  }
  #startJoin(): void {
    const url = () => this.config?.siderolink?.url || this.chassis.args.siderolink;
    let session: AbortController | undefined;
    const start = () => {
      session?.abort(new Error("configuration changed"));
      if (!url()) return undefined;
      this.#showJoin(url());
      session = new AbortController();
      return this.chassis.joiner.start({
        url: url(),
        trustedRoots: this.config?.trustedRoots ?? [],
        identity: () => ({ uuid: this.uuid, uniqueToken: this.uniqueToken, talosVersion: this.chassis.release.tag }),
        events: {
          up: (network, link) => this.#linkUp(network, link, url()),
          note: (text) =>
            this.kernel.talos(
              `${text} {"component": "controller-runtime", "controller": "siderolink.ManagerController"}`,
            ),
        },
        signal: AbortSignal.any([this.signal, session.signal]),
      });
    };
    let used = url();
    let join = start();
    this.#rejoin = () => {
      if (url() !== used) {
        used = url();
        // The call that changed it came over the link, and is to be answered first.
        const { clock, delays } = this.chassis;
        clock.after(delays.grace, () => {
          if (!this.signal.aborted) join = start();
        });
      } else join?.changed();
    };
  }
  #showJoin(url: string): void {
    try {
      const { authority: host, token = "", tls, tunnel } = parseApiUrl(url);
      const spec = { apiEndpoint: url, host, joinToken: token, insecure: !tls, tunnel };
      this.state.put(types.siderolinkConfig, "siderolink", spec);
    } catch {
      // The joiner says what is wrong with it, and tries again.
      this.state.remove(types.siderolinkConfig, "siderolink");
    }
  }
  #linkUp(network: Network, link: { readonly name: string; readonly tunnel: boolean }, url: string): void {
    this.#networkEnd?.abort(new Error("the link was set up again"));
    this.#networkEnd = new AbortController();
    const signal = AbortSignal.any([this.signal, this.#networkEnd.signal]);
    this.network = network;
    this.link = link;
    fillNetwork(this.state, this.chassis.hardware, { address: network.address, name: link.name });
    this.state.put(types.siderolinkStatus, "siderolink-status", {
      host: url.replace(/^[a-z]+:\/\//, "").replace(/[/?].*/, ""),
      connected: true,
      linkName: link.name,
      grpcTunnel: link.tunnel,
    });
    this.hostnameChanged();
    const listener = network.listen(ports.apid, (stream, remote) => this.chassis.serveApid(this, stream, remote));
    signal.addEventListener("abort", () => listener.close(), { once: true });
    this.#runSinks(network, signal);
    for (const start of this.onNetwork) start(network, signal);
  }

  #sinksEnd: AbortController | undefined;
  #restartSinks(): void {
    this.#sinksEnd?.abort(new Error("configuration changed"));
    if (this.network && this.#networkEnd)
      this.#runSinks(this.network, AbortSignal.any([this.signal, this.#networkEnd.signal]));
  }
  #sinks(): { eventSink: string; kmsg: readonly string[] } {
    const { args } = this.chassis;
    return {
      eventSink: this.config?.eventSink || args.eventSink,
      kmsg: [...new Set([...args.kmsg, ...(this.config?.kmsg ?? [])].map((url) => url.replace(/\/$/, "")))],
    };
  }
  #runSinks(network: Network, until: AbortSignal): void {
    this.#sinksEnd = new AbortController();
    const signal = AbortSignal.any([until, this.#sinksEnd.signal]);
    const { clock, delays, log } = this.chassis;
    const { eventSink, kmsg } = this.#sinks();
    const failed = (error: unknown) => log.debug({ error }, "sink ended");
    if (eventSink) {
      const retry = { initial: delays.retry, max: delays.retryMax };
      sendEvents({ ring: this.events, endpoint: eventSink, network, clock, retry, signal }).catch(failed);
    }
    for (const url of kmsg) sendKernelLog({ log: this.kernel, url, network, clock, signal }).catch(failed);
  }
}

/** Id of a META key as a resource. */
export function metaId(key: number): string {
  return `0x${key.toString(16).padStart(2, "0")}`;
}
