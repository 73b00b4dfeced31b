import { equals, type Message, toJson } from "@bufbuild/protobuf";
import { createTwoFilesPatch } from "diff";
import { stringify } from "yaml";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { KernelArgsKind } from "#kinds/cluster/kernel-args.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { annotation, label } from "#kinds/labels.ts";
import { IchorError } from "#lib/errors.ts";
import type { AnyKind, Kind } from "#resource/kind.ts";
import { labelled, type Query } from "#resource/query.ts";
import type { Resource } from "#resource/resource.ts";
import { order, type Wanted } from "./render.ts";

/** What a plan reads from the plane. */
export interface ResourceReader {
  get<S extends Message>(kind: Kind<S>, id: string): Promise<Resource<S> | undefined>;
  list<S extends Message>(kind: Kind<S>, query?: Query): Promise<Resource<S>[]>;
}

/** One change that a sync makes. */
export type Step =
  | { readonly action: "create"; readonly wanted: Wanted }
  | { readonly action: "update"; readonly wanted: Wanted; readonly current: Resource }
  | { readonly action: "delete"; readonly current: Resource; readonly kind: AnyKind };

/** All that a sync would do, in order, and what it leaves alone. */
export interface Plan {
  readonly cluster: string;
  readonly steps: readonly Step[];
  /** Resources of the cluster that no template made: hand-made patches, for instance. */
  readonly kept: readonly { readonly kind: AnyKind; readonly id: string }[];
}

/** Compares what a template wants with what is. Throws `failed_precondition` where it would take over what others made. */
export async function planSync(cluster: string, wanted: readonly Wanted[], reader: ResourceReader): Promise<Plan> {
  const creates: Step[] = [];
  const updates: Step[] = [];
  const deletes: Step[] = [];
  const kept: { kind: AnyKind; id: string }[] = [];
  const existing = await existingOf(cluster, wanted, reader);
  for (const want of wanted) {
    const current = existing.get(keyOf(want.kind, want.id)) ?? (await reader.get(want.kind, want.id));
    if (!current) {
      creates.push({ action: "create", wanted: want });
      continue;
    }
    refuseForeign(cluster, want, current);
    if (!same(want, current)) updates.push({ action: "update", wanted: want, current });
  }
  const wantedKeys = new Set(wanted.map(({ kind, id }) => keyOf(kind, id)));
  for (const kind of [...order].reverse()) {
    for (const [key, current] of existing) {
      if (wantedKeys.has(key) || current.metadata.type !== kind.type) continue;
      if (isManaged(current)) deletes.push({ action: "delete", kind, current });
      else kept.push({ kind, id: current.metadata.id });
    }
  }
  return { cluster, steps: [...creates, ...updates, ...deletes], kept };
}

/** All that template deletion removes: every managed resource of the cluster, the cluster last. */
export async function planDelete(cluster: string, reader: ResourceReader): Promise<Plan> {
  const { steps, kept } = await planSync(cluster, [], reader);
  const found = await reader.get(ClusterKind, cluster);
  if (!found) throw new IchorError("not_found", `there is no cluster "${cluster}"; see: ichor cluster list`);
  const withoutCluster = steps.filter((step) => !(step.action === "delete" && step.kind === ClusterKind));
  return { cluster, steps: [...withoutCluster, { action: "delete", kind: ClusterKind, current: found }], kept };
}

/** Patches that a plan removes and that give machines their addresses: losing them may lose the machines. */
export function networkLosses(plan: Plan): string[] {
  const address =
    /^\s*-?\s*(addresses|interfaces|gateway|dhcp|vip):|^kind:\s*(Link|Bond|VLAN|Bridge|Dummy|DHCPv\dConfig|Layer2VIP|Wireguard|StaticHost|Resolver|Hostname)\w*/m;
  return plan.steps
    .filter((step) => step.action === "delete" && step.kind === ConfigPatchKind)
    .map((step) => (step as Extract<Step, { action: "delete" }>).current)
    .filter((current) => address.test((current.spec as Message & { data: string }).data))
    .map((current) => current.metadata.id);
}

/** A unified diff of one step; `redact` blanks the secrets of patches. */
export function diffOf(step: Step, redact: (text: string) => string): string {
  const name =
    step.action === "delete"
      ? `${step.kind.type} ${step.current.metadata.id}`
      : `${step.wanted.kind.type} ${step.wanted.id}`;
  const kind = step.action === "delete" ? step.kind : step.wanted.kind;
  const before = step.action === "create" ? "" : show(kind, step.current.spec, step.current.metadata.labels, redact);
  const after = step.action === "delete" ? "" : show(kind, step.wanted.spec, step.wanted.labels, redact);
  return createTwoFilesPatch(
    step.action === "create" ? "/dev/null" : name,
    step.action === "delete" ? "/dev/null" : name,
    before,
    after,
    "",
    "",
    { context: 3 },
  );
}

function show(
  kind: AnyKind,
  spec: Message,
  labels: Readonly<Record<string, string>>,
  redact: (text: string) => string,
): string {
  const json = toJson(kind.spec, spec) as Record<string, unknown>;
  if (typeof json.data === "string") json.data = redact(json.data);
  return stringify({ labels, spec: json });
}

async function existingOf(
  cluster: string,
  wanted: readonly Wanted[],
  reader: ResourceReader,
): Promise<Map<string, Resource>> {
  const found = new Map<string, Resource>();
  const add = (kind: AnyKind, resource: Resource | undefined) => {
    if (resource) found.set(keyOf(kind, resource.metadata.id), resource);
  };
  add(ClusterKind, await reader.get(ClusterKind, cluster));
  const machines = new Set(wanted.filter(({ kind }) => kind === MachineSetNodeKind).map(({ id }) => id));
  for (const kind of order) {
    if (kind === ClusterKind || kind === KernelArgsKind) continue;
    for (const resource of await reader.list(kind, labelled({ [label.cluster]: cluster }))) {
      // Nodes that the plane allocated from a machine class are its own.
      if (resource.metadata.owner) continue;
      if (kind === MachineSetNodeKind) machines.add(resource.metadata.id);
      add(kind, resource);
    }
  }
  // Kernel arguments stay with a machine beyond its cluster: they carry no cluster label.
  for (const id of machines) add(KernelArgsKind, await reader.get(KernelArgsKind, id));
  return found;
}

function refuseForeign(cluster: string, want: Wanted, current: Resource): void {
  const { labels, id } = current.metadata;
  const other = labels[label.cluster];
  if (other && other !== cluster) {
    throw new IchorError(
      "failed_precondition",
      `${want.kind.type} "${id}" belongs to cluster "${other}": remove it there first, or take it out of this template`,
    );
  }
  if (!isManaged(current)) {
    throw new IchorError(
      "failed_precondition",
      `${want.kind.type} "${id}" exists and was not made by a template: delete it, or choose another name in the template`,
    );
  }
}

function isManaged(resource: Resource): boolean {
  return Object.hasOwn(resource.metadata.annotations, annotation.managedByClusterTemplates);
}

function same(want: Wanted, current: Resource): boolean {
  return (
    equals(want.kind.spec, want.spec, current.spec) &&
    sameMap(want.labels, current.metadata.labels) &&
    sameMap(want.annotations, current.metadata.annotations)
  );
}

function sameMap(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}

function keyOf(kind: AnyKind, id: string): string {
  return `${kind.type}/${id}`;
}
