import type { Reader } from "#engine/controller.ts";
import type { ClusterMachineSpec } from "#gen/specs/specs_pb.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { label } from "#kinds/labels.ts";
import { labelled } from "#resource/query.ts";
import type { Metadata, Resource } from "#resource/resource.ts";

/** Wakes the cluster that the resource is labelled with. */
export function cluster({ labels }: Metadata): string[] {
  const name = labels[label.cluster];
  return name ? [name] : [];
}

/** Wakes the machine set that the resource is labelled with. */
export function machineSet({ labels }: Metadata): string[] {
  const id = labels[label.machineSet];
  return id ? [id] : [];
}

/** Wakes all machines of the cluster whose name is the resource's id. */
export async function machinesOf({ id }: Pick<Metadata, "id">, reader: Reader): Promise<string[]> {
  return (await members(reader, id)).map(({ metadata }) => metadata.id);
}

/** The machines of a cluster. */
export function members(reader: Reader, name: string): Promise<Resource<ClusterMachineSpec>[]> {
  return reader.list(ClusterMachineKind, labelled({ [label.cluster]: name }));
}

/** The Kubernetes version that a cluster runs: what its machines were made with, since it cannot be changed yet; undefined without machines. */
export async function kubernetesVersion(reader: Reader, name: string): Promise<string | undefined> {
  return (await members(reader, name)).find(({ spec }) => spec.kubernetesVersion)?.spec.kubernetesVersion;
}

/** Whether it is a control plane, by its labels. */
export function isControlPlane({ labels }: Metadata): boolean {
  return label.roleControlPlane in labels;
}
