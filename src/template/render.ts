import { create, type Message } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  KubernetesManifestGroupSpec_Mode,
  MachineSetSpec_MachineAllocation_Type,
  MachineSetSpec_UpdateStrategy,
} from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { ExtensionsConfigurationKind } from "#kinds/cluster/extensions-configuration.ts";
import { KernelArgsKind } from "#kinds/cluster/kernel-args.ts";
import { KubernetesManifestGroupKind } from "#kinds/cluster/kubernetes-manifest-group.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { annotation, label } from "#kinds/labels.ts";
import { IchorError } from "#lib/errors.ts";
import type { AnyKind } from "#resource/kind.ts";
import { sourceText } from "./check.ts";
import type { Template } from "./parse.ts";
import type { MachineDocument, PatchEntry, WorkersDocument } from "./schema.ts";

/** A resource as a template wants it. */
export interface Wanted {
  readonly kind: AnyKind;
  readonly id: string;
  readonly spec: Message;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

type Layer = Pick<MachineDocument, "patches" | "systemExtensions" | "kernelArgs" | "labels" | "annotations">;
type Labels = Record<string, string>;

/**
 * Turns a checked template into resources, in the order of their creation (protocols.md 14.2 to 14.7). Throws `invalid_argument` on
 * two resources with one id.
 */
export function renderTemplate(template: Template, readFile: (path: string) => string): Wanted[] {
  const name = template.cluster.value.name;
  const ofCluster: Labels = { [label.cluster]: name };
  const wanted: Wanted[] = [renderCluster(template)];

  const layer = (source: Layer, of: string, weight: number, prefix: string, labels: Labels) => {
    wanted.push(...renderPatches(source.patches, weight, prefix, labels, readFile));
    if (source.systemExtensions) {
      wanted.push(
        make(ExtensionsConfigurationKind, `schematic-${of}`, { extensions: source.systemExtensions }, labels),
      );
    }
  };

  layer(template.cluster.value, name, 200, `cluster-${name}`, ofCluster);
  for (const [index, entry] of (template.cluster.value.kubernetes.manifests ?? []).entries()) {
    const title = entry.name ?? entry.file ?? "";
    const spec = {
      data: sourceText(entry, readFile),
      mode: KubernetesManifestGroupSpec_Mode[entry.mode === "full" ? "FULL" : "ONE_TIME"],
    };
    const id = `${pad(200 + index)}-cluster-${name}-${title}`;
    wanted.push(
      make(
        KubernetesManifestGroupKind,
        id,
        spec,
        { ...entry.labels, ...ofCluster },
        { name: title, ...entry.annotations },
      ),
    );
  }

  const described = new Map(template.machines.map((machine) => [machine.value.name.toLowerCase(), machine.value]));
  for (const { value: set } of [template.controlPlane, ...template.workers]) {
    const isControlPlane = set.kind === "ControlPlane";
    const id = `${name}-${isControlPlane ? "control-planes" : (set.name ?? "workers")}`;
    const role: Labels = { [isControlPlane ? label.roleControlPlane : label.roleWorker]: "" };
    const ofSet: Labels = { ...ofCluster, [label.machineSet]: id };
    wanted.push(renderMachineSet(set, id, { ...set.labels, ...ofCluster, ...role }));
    layer(set, id, 400, id, ofSet);
    for (const uuid of set.machines ?? []) {
      const machine = described.get(uuid.toLowerCase());
      const locked: Labels = machine?.locked ? { [annotation.locked]: "" } : {};
      wanted.push(
        make(
          MachineSetNodeKind,
          uuid,
          {},
          { ...machine?.labels, ...ofSet, ...role },
          { ...machine?.annotations, ...locked },
        ),
      );
      if (machine)
        layer(withInstallDisk(machine), uuid, 400, `cm-${uuid}`, { ...ofCluster, [label.clusterMachine]: uuid });
      const args = machine?.kernelArgs ?? set.kernelArgs ?? template.cluster.value.kernelArgs;
      if (args) wanted.push(make(KernelArgsKind, uuid, { args }, {}));
      if (machine?.install?.disk) wanted.push(installDiskPatch(machine.install.disk, uuid, ofCluster));
    }
  }

  const ids = new Set<string>();
  for (const { kind, id } of wanted) {
    const text = `${kind.type} "${id}"`;
    if (ids.has(text))
      throw new IchorError(
        "invalid_argument",
        `the template makes ${text} twice: give the patches or manifests different names`,
      );
    ids.add(text);
  }
  return wanted.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
}

/** Order of creation and update; deletion goes the other way round. */
export const order: readonly AnyKind[] = [
  ClusterKind,
  ExtensionsConfigurationKind,
  ConfigPatchKind,
  KubernetesManifestGroupKind,
  MachineSetKind,
  MachineSetNodeKind,
  KernelArgsKind,
];

function make(kind: AnyKind, id: string, spec: object, labels: Labels, annotations: Labels = {}): Wanted {
  return {
    kind,
    id,
    spec: create(kind.spec, spec),
    labels,
    annotations: { ...annotations, [annotation.managedByClusterTemplates]: "" },
  };
}

function renderCluster({ cluster: { value } }: Template): Wanted {
  const { features = {} } = value;
  const interval = goDuration(features.backupConfiguration?.interval ?? 0);
  const spec = {
    kubernetesVersion: value.kubernetes.version.replace(/^v/, ""),
    talosVersion: value.talos.version.replace(/^v/, ""),
    features: {
      enableWorkloadProxy: features.enableWorkloadProxy ?? false,
      diskEncryption: features.diskEncryption ?? false,
      useEmbeddedDiscoveryService: features.useEmbeddedDiscoveryService ?? false,
      disablePublicDiscoveryService: features.disablePublicDiscoveryService ?? false,
      enableNodeAuditSkip: features.enableNodeAuditSkip ?? false,
    },
    ...(interval > 0 ? { backupConfiguration: { interval: durationFromMs(interval), enabled: true } } : {}),
  };
  return make(ClusterKind, value.name, spec, { ...value.labels }, { ...value.annotations });
}

function renderMachineSet(
  set: Template["controlPlane"]["value"] | WorkersDocument,
  id: string,
  labels: Labels,
): Wanted {
  const { machineClass } = set;
  const unlimited = machineClass && typeof machineClass.size !== "number";
  const allocation = machineClass && {
    name: machineClass.name,
    machineCount: unlimited ? 0 : (machineClass.size as number),
    allocationType: MachineSetSpec_MachineAllocation_Type[unlimited ? "Unlimited" : "Static"],
  };
  const strategies = set.kind === "Workers" ? { update: set.updateStrategy, remove: set.deleteStrategy } : {};
  const type = (chosen: "Unset" | "Rolling") => MachineSetSpec_UpdateStrategy[chosen];
  const config = (strategy: WorkersDocument["updateStrategy"]) =>
    strategy?.rolling?.maxParallelism ? { rolling: { maxParallelism: strategy.rolling.maxParallelism } } : undefined;
  const [update, remove, upgrade] = [config(strategies.update), config(strategies.remove), config(set.upgradeStrategy)];
  const spec = {
    updateStrategy: type(strategies.update?.type ?? "Rolling"),
    deleteStrategy: type(strategies.remove?.type ?? "Unset"),
    upgradeStrategy: type(set.upgradeStrategy?.type ?? "Unset"),
    ...(update ? { updateStrategyConfig: update } : {}),
    ...(remove ? { deleteStrategyConfig: remove } : {}),
    ...(upgrade ? { upgradeStrategyConfig: upgrade } : {}),
    ...(allocation ? { machineAllocation: allocation } : {}),
    ...(set.kind === "ControlPlane" && set.bootstrapSpec
      ? { bootstrapSpec: { clusterUuid: set.bootstrapSpec.clusterUUID, snapshot: set.bootstrapSpec.snapshot } }
      : {}),
  };
  return make(MachineSetKind, id, spec, labels, { ...set.annotations });
}

function renderPatches(
  patches: readonly PatchEntry[] | undefined,
  base: number,
  prefix: string,
  labels: Labels,
  readFile: (path: string) => string,
): Wanted[] {
  return (patches ?? []).map((patch, index) => {
    const title = patch.name ?? patch.file ?? patch.idOverride ?? "";
    const id = patch.idOverride ?? `${pad(base + index)}-${prefix}-${title}`;
    return make(
      ConfigPatchKind,
      id,
      { data: sourceText(patch, readFile) },
      { ...patch.labels, ...labels },
      { name: title, ...patch.annotations },
    );
  });
}

/** Labels and annotations of a Machine document go to its MachineSetNode, not to its patches. */
function withInstallDisk({ patches, systemExtensions }: MachineDocument): Layer {
  return { patches, systemExtensions };
}

/** As Omni 1.10 keeps the choice of disk: a system patch of the machine. */
function installDiskPatch(disk: string, uuid: string, ofCluster: Labels): Wanted {
  const labels = { ...ofCluster, [label.clusterMachine]: uuid, [label.systemPatch]: "" };
  return make(
    ConfigPatchKind,
    `000-cm-${uuid}-install-disk`,
    { data: `machine:\n  install:\n    disk: ${disk}\n` },
    labels,
  );
}

function pad(weight: number): string {
  return String(weight).padStart(3, "0");
}

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a duration in Go's form; the schema has checked it. */
function goDuration(text: string | 0): number {
  let total = 0;
  for (const [, amount, unit] of String(text).matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g))
    total += Number(amount) * (unitMs[unit ?? ""] ?? 0);
  return total;
}
