import { isDeepStrictEqual } from "node:util";
import { IchorError } from "#lib/errors.ts";
import type { Boot } from "./boot.ts";
import { isMapping, type Mapping } from "./config/documents.ts";
import { validateConfig } from "./config/validate.ts";
import { type ConfigView, viewConfig } from "./config/view.ts";
import { reboot } from "./operations.ts";

/** Numbers of ApplyConfigurationRequest.Mode. */
export const modes = { reboot: 0, auto: 1, noReboot: 2, staged: 3, try: 4 } as const;

/** A configuration sent to a machine. */
export interface Application {
  readonly data: Uint8Array;
  readonly mode: number;
  readonly dryRun: boolean;
  /** Milliseconds until a try is undone. */
  readonly tryTimeout: number;
}

/** How it was taken. */
export interface Applied {
  readonly warnings: readonly string[];
  readonly mode: 0 | 1 | 2 | 3 | 4;
  readonly details: string;
}

const undo = new WeakMap<Boot, { cancel(): void }>();

/**
 * ApplyConfiguration by the rules of protocols.md 5.6. Throws `invalid_argument` for what Talos refuses, `failed_precondition` while a
 * sequence runs, `unimplemented` for a mode that this version or state has not.
 */
export function applyConfiguration(boot: Boot, request: Application): Applied {
  const { chassis } = boot;
  const { minor } = chassis.release;
  if (chassis.knobs.refuseConfig) throw new IchorError("invalid_argument", chassis.knobs.refuseConfig);
  const config = viewConfig(request.data);
  const mode = chooseMode(boot, request.mode);
  const maintenance = boot.maintenance;
  const warnings = validateConfig(config, {
    maintenance,
    installed: chassis.disk.installed !== undefined,
    minor,
    disks: chassis.hardware.disks.map((disk) => disk.path),
  });
  if (boot.busy && minor >= 12)
    throw new IchorError("failed_precondition", `sequence "${boot.busy}" is in progress: locked`);
  const needsReboot = maintenance ? undefined : firstFieldNeedingReboot(boot.config, config);
  const used = decide(mode, needsReboot, minor, maintenance);
  const details = describe(used, boot.config, config, needsReboot);
  if (request.dryRun) return { warnings, mode: used, details: `Dry run summary:\n${details}` };
  take(boot, config, used, request.tryTimeout);
  return { warnings, mode: used, details };
}

function chooseMode(boot: Boot, mode: number): number {
  const { minor } = boot.chassis.release;
  if (!Object.values<number>(modes).includes(mode)) throw new IchorError("invalid_argument", `unknown mode ${mode}`);
  if (boot.maintenance) {
    if (minor <= 12 && (mode === modes.noReboot || mode === modes.staged))
      throw new IchorError("unimplemented", "apply configuration mode is not supported in maintenance mode");
    return mode === modes.try || mode === modes.staged ? mode : modes.noReboot;
  }
  if (minor >= 14 && mode === modes.reboot)
    throw new IchorError("unimplemented", "apply configuration with reboot is not supported");
  return minor >= 14 && mode === modes.auto ? modes.noReboot : mode;
}

function decide(mode: number, needsReboot: string | undefined, minor: number, maintenance: boolean): Applied["mode"] {
  if (mode === modes.auto) return needsReboot ? modes.reboot : modes.noReboot;
  if (minor < 14 && !maintenance && needsReboot && (mode === modes.noReboot || mode === modes.try))
    throw new IchorError(
      "invalid_argument",
      `this config change can't be applied in immediate mode\ndiff: ${needsReboot}`,
    );
  return mode as Applied["mode"];
}

function take(boot: Boot, config: ConfigView, mode: Applied["mode"], tryTimeout: number): void {
  const { disk, clock } = boot.chassis;
  const before = boot.config;
  undo.get(boot)?.cancel();
  undo.delete(boot);
  if (mode === modes.staged) {
    disk.staged = config.text;
    boot.chassis.save();
    return;
  }
  if (mode !== modes.try && disk.installed && (config.complete || boot.chassis.release.minor >= 13)) {
    disk.config = config.complete ? config.text : [disk.config, config.text].filter(Boolean).join("\n---\n");
    boot.chassis.save();
  }
  if (mode === modes.reboot) {
    reboot(boot);
    return;
  }
  boot.adoptConfig(config);
  if (mode === modes.try && before) {
    undo.set(
      boot,
      clock.after(tryTimeout, () => {
        boot.kernel.talos("rolling back to the previous configuration: try mode timed out");
        boot.adoptConfig(before);
      }),
    );
  }
}

/** Parts of `machine` that may change live; all of `cluster` may (Talos' documentation, "configuration editing"). */
const live = new Set([
  "ca",
  "acceptedCAs",
  "certSANs",
  "install",
  "network",
  "nodeAnnotations",
  "nodeLabels",
  "nodeTaints",
  "sysfs",
  "sysctls",
  "time",
  "logging",
  "controlPlane",
  "kubelet",
  "pods",
  "kernel",
  "registries",
  "features",
  "token",
]);

function firstFieldNeedingReboot(before: ConfigView | undefined, after: ConfigView): string | undefined {
  const machine = (config: ConfigView | undefined): Mapping => {
    const value = config?.documents.find((document) => document.kind === "v1alpha1")?.body.machine;
    return isMapping(value) ? value : {};
  };
  const old = machine(before);
  const now = machine(after);
  const keys = new Set([...Object.keys(old), ...Object.keys(now)]);
  for (const key of keys) if (!live.has(key) && !isDeepStrictEqual(old[key], now[key])) return `machine.${key}`;
  return undefined;
}

function describe(
  mode: Applied["mode"],
  before: ConfigView | undefined,
  after: ConfigView,
  needsReboot: string | undefined,
): string {
  const changed = diffPaths(before, after);
  const what = changed.length === 0 ? "No changes." : `Config diff (changed sections): ${changed.join(", ")}`;
  switch (mode) {
    case modes.reboot:
      return `Applied configuration with a reboot: ${needsReboot ? `${needsReboot} cannot be changed live` : "as asked"}.\n${what}`;
    case modes.staged:
      return `Staged configuration to be applied after the next reboot.\n${what}`;
    case modes.try:
      return `Applied configuration temporarily; it will be rolled back unless it is applied again.\n${what}`;
    default:
      return `Applied configuration without a reboot.\n${what}`;
  }
}

/** Names of sections that differ; never values, for they may be secret. */
function diffPaths(before: ConfigView | undefined, after: ConfigView): string[] {
  const flatten = (config: ConfigView | undefined) => {
    const out = new Map<string, unknown>();
    for (const { kind, name, body } of config?.documents ?? []) {
      if (kind !== "v1alpha1") out.set(`${kind}/${name}`, body);
      else
        for (const section of ["machine", "cluster"] as const)
          for (const [key, value] of Object.entries(isMapping(body[section]) ? body[section] : {}))
            out.set(`${section}.${key}`, value);
    }
    return out;
  };
  const old = flatten(before);
  const now = flatten(after);
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((key) => !isDeepStrictEqual(old.get(key), now.get(key)))
    .sort();
}
