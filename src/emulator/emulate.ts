import { availableParallelism } from "node:os";
import { type Clock, systemClock } from "#lib/clock.ts";
import { type Logger, silent } from "#lib/log.ts";
import { ApidServer } from "./apid/server.ts";
import { Clusters } from "./cluster.ts";
import { type DelayProfile, type Delays, delayProfiles } from "./delays.ts";
import { blankDisks } from "./disk.ts";
import { makeHardware } from "./hardware/hardware.ts";
import { parseApiUrl, parseKernelArguments } from "./join/arguments.ts";
import type { Joiner } from "./join/joiner.ts";
import { SideroLink } from "./join/siderolink.ts";
import type { Knobs } from "./knobs.ts";
import type { Programs } from "./kubereal/control-plane.ts";
import { KubernetesFolder } from "./kubereal/folder.ts";
import { Machine } from "./machine.ts";
import { StateDirectory } from "./state-directory.ts";
import { defaultTalosVersion, release } from "./versions.ts";

/** What to emulate. */
export interface EmulatorOptions {
  /** Number of machines. Default 1. */
  readonly count?: number;
  /** SideroLink API URL, with `jointoken` and `grpc_tunnel` as on a kernel command line. Events and logs go to the addresses of `kernelArgs`, or Omni's defaults. */
  readonly apiUrl?: string;
  /** A whole kernel command line; `apiUrl` replaces its `siderolink.api`. */
  readonly kernelArgs?: string;
  /** Same seed, same machines. Default "ichor". */
  readonly seed?: string;
  /** Profile name or own delays. Default "real". */
  readonly delays?: DelayProfile | Delays;
  /** Where machines and clusters are kept over restarts; default: nowhere. */
  readonly stateDir?: string;
  /** What the boot medium holds. Default v1.13.9. */
  readonly talosVersion?: string;
  /** Milliseconds between two machines' power on. Default 0: as many at once as processors can do. */
  readonly stagger?: number;
  /** Each cluster gets these instead of the built-in Kubernetes API. */
  readonly kubernetes?: Programs;
  readonly knobs?: Knobs;
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
  /** How machines join; default: for real. Tests put an in-memory network here. */
  readonly joiner?: (index: number) => Joiner;
}

/** A running emulator. */
export interface Emulator {
  readonly machines: readonly Machine[];
  /** Failure knobs of machine `index`: change them at any time. */
  knobs(index: number): Knobs;
  stop(): Promise<void>;
}

/** Schematic of an image without any customization (protocols.md 12.2). */
const emptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";
const omniSinks =
  "talos.events.sink=[fdae:41e4:649b:9303::1]:8090 talos.logging.kernel=tcp://[fdae:41e4:649b:9303::1]:8092";
const usual = "talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge= pti=on consoleblank=0 printk.devkmsg=on";

/** Starts machines. Throws `invalid_argument` for a bad URL or version. */
export async function startEmulator(options: EmulatorOptions): Promise<Emulator> {
  const { count = 1, seed = "ichor", log = silent, clock = systemClock } = options;
  const delays = typeof options.delays === "object" ? options.delays : delayProfiles[options.delays ?? "real"];
  const given = parseKernelArguments(options.kernelArgs ?? `${usual} ${omniSinks}`);
  const args = options.apiUrl ? { ...given, siderolink: options.apiUrl } : given;
  if (args.siderolink) parseApiUrl(args.siderolink);
  const medium = release(options.talosVersion ?? defaultTalosVersion);
  const directory = options.stateDir ? await StateDirectory.open(options.stateDir, clock, log) : undefined;
  const kubernetes = options.kubernetes && (await KubernetesFolder.open(options.kubernetes, options.stateDir));
  const real = options.kubernetes &&
    kubernetes && { programs: options.kubernetes, folder: kubernetes.path, clock, log };
  const clusters = new Clusters(clock, () => directory?.dirty(), real);
  clusters.load(directory?.clusters ?? []);
  directory?.saveClusters(() => clusters.save());
  const apid = new ApidServer();
  const knobs: Knobs[] = [];
  const machines = Array.from({ length: count }, (_, index) => {
    const hardware = makeHardware(seed, index);
    const own: Knobs = { ...options.knobs };
    knobs.push(own);
    return new Machine({
      hardware,
      disk: directory?.machine(hardware.uuid) ?? blankDisks(),
      release: medium,
      args,
      schematic: emptySchematic,
      extensions: [],
      knobs: own,
      delays,
      clock,
      log,
      clusters,
      joiner: options.joiner?.(index) ?? new SideroLink({ clock, delays, knobs: own }),
      serveApid: (boot, stream, remote) => apid.accept(boot, stream, remote),
      save: () => directory?.dirty(),
    });
  });
  const { stagger = 0 } = options;
  const batch = Math.max(8, availableParallelism() * 8);
  for (const [index, machine] of machines.entries()) {
    if (machine.chassis.disk.off) continue;
    clock.after(stagger > 0 ? index * stagger : Math.floor(index / batch) * 25, () => machine.start());
  }
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      await Promise.all(machines.map((machine) => machine.stop()));
      await clusters.stop();
      await kubernetes?.close();
      await directory?.close();
    })();
    return stopping;
  };
  options.signal?.addEventListener("abort", () => void stop(), { once: true });
  return { machines, knobs: (index) => knobs[index] ?? {}, stop };
}
