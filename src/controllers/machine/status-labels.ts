import type { MachineStatusSpec } from "#gen/specs/specs_pb.ts";
import { label } from "#kinds/labels.ts";
import type { Draft } from "#store/state.ts";

/** Labels of what a machine is, as Omni names them (protocols.md 11.4): machine classes select by them. */
export function statusLabels({ spec, labels }: Draft<MachineStatusSpec>, talosVersion: string): void {
  const set = (key: string, value: string) => {
    if (value) labels[key] = value;
    else delete labels[key];
  };
  const processors = spec.hardware?.processors ?? [];
  const disks = (spec.hardware?.blockdevices ?? []).filter(({ type }) => type !== "CD");
  const cores = processors.reduce((sum, { coreCount }) => sum + coreCount, 0);
  const memory = (spec.hardware?.memoryModules ?? []).reduce((sum, { sizeMb }) => sum + sizeMb, 0);
  const storage = disks.reduce((sum, { size }) => sum + Number(size), 0);
  const net = (spec.network?.networkLinks ?? []).reduce((sum, { speedMbps }) => sum + speedMbps, 0);
  const { platform = "", region = "", zone = "", instanceType = "" } = spec.platformMetadata ?? {};
  set(label.cores, cores ? String(cores) : "");
  set(label.cpu, labelValue(processors[0]?.manufacturer ?? ""));
  set(label.mem, memory ? `${Math.round(memory / 1024)}GiB` : "");
  set(label.storage, storage ? `${Math.round(storage / 1e9)}GB` : "");
  set(label.net, net ? `${Math.round(net / 1000)}Gbps` : "");
  set(label.arch, spec.hardware?.arch ?? "");
  set(label.platform, platform);
  set(label.region, region);
  set(label.zone, zone);
  set(label.instance, instanceType);
  set(label.talosVersion, talosVersion);
  if (disks.some(({ systemDisk }) => systemDisk)) labels[label.installed] = "";
  else delete labels[label.installed];
  labels[label.reportingEvents] = "";
}

/** A text that is allowed as the value of a label. */
function labelValue(text: string): string {
  return text
    .toLowerCase()
    .replace(/\b(corporation|corp|inc|co|ltd)\b\.?/g, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}
