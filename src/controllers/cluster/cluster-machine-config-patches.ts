import { gunzipSync } from "node:zlib";
import type { Controller, Reader } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import type { ConfigPatchSpec } from "#gen/specs/specs_pb.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineConfigPatchesKind } from "#kinds/cluster/cluster-machine-config-patches.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { label } from "#kinds/labels.ts";
import { IchorError } from "#lib/errors.ts";
import { labelled } from "#resource/query.ts";
import type { Metadata, Resource } from "#resource/resource.ts";

/** Largest patch after decompression: 4 MiB. */
const largest = 4 * 1024 * 1024;

/** Collects the patches of a machine in the order of their application (protocols.md 14.5). */
export function clusterMachineConfigPatchesController(): Controller {
  return transform({
    name: "cluster-machine-config-patches",
    purpose: "Collects the patches of each machine: of its cluster, its machine set, itself.",
    input: ClusterMachineKind,
    output: ClusterMachineConfigPatchesKind,
    inputs: [{ kind: ConfigPatchKind, wakes: concerned }],
    concurrency: 16,
    async transform(context, { metadata }) {
      const { labels, id } = metadata;
      const inCluster = await context.list(ConfigPatchKind, labelled({ [label.cluster]: labels[label.cluster] ?? "" }));
      const ofMachine = await context.list(ConfigPatchKind, labelled({ [label.machine]: id }));
      const patches = [...inCluster.filter((patch) => !(label.machine in patch.metadata.labels)), ...ofMachine]
        .filter(({ metadata: { phase, labels: own } }) => phase === "running" && !(label.disabled in own))
        .filter((patch) => levelOf(patch.metadata, metadata) !== undefined)
        .sort(
          (a, b) =>
            levelOf(a.metadata, metadata)! - levelOf(b.metadata, metadata)! || (a.metadata.id < b.metadata.id ? -1 : 1),
        );
      return (draft) => {
        draft.spec.patches = patches.map(textOf);
        draft.annotations[patchIds] = JSON.stringify(patches.map((patch) => patch.metadata.id));
      };
    },
  });
}

/** Annotation: the ids of the patches, in the same order, so that errors can name them. */
export const patchIds = "ichor.dev/patch-ids";

/** 0 cluster, 1 machine set, 2 cluster machine, 3 machine; undefined when it is not for this machine. */
function levelOf({ labels }: Metadata, machine: Metadata): number | undefined {
  if (label.machine in labels) return labels[label.machine] === machine.id ? 3 : undefined;
  if (label.clusterMachine in labels) return labels[label.clusterMachine] === machine.id ? 2 : undefined;
  if (label.machineSet in labels) {
    return labels[label.machineSet] === machine.labels[label.machineSet] ? 1 : undefined;
  }
  return 0;
}

async function concerned({ labels }: Metadata, reader: Reader): Promise<string[]> {
  const one = labels[label.machine] ?? labels[label.clusterMachine];
  if (one) return [one];
  const query: Record<string, string> = labels[label.machineSet]
    ? { [label.machineSet]: labels[label.machineSet]! }
    : { [label.cluster]: labels[label.cluster] ?? "" };
  return (await reader.list(ClusterMachineKind, labelled(query))).map(({ metadata }) => metadata.id);
}

function textOf({ metadata, spec }: Resource<ConfigPatchSpec>): string {
  if (spec.compressedData.length === 0) return spec.data;
  try {
    return gunzipSync(spec.compressedData, { maxOutputLength: largest }).toString();
  } catch (cause) {
    throw new IchorError(
      "invalid_argument",
      `config patch "${metadata.id}" cannot be decompressed (gzip, at most 4 MiB)`,
      {
        cause,
      },
    );
  }
}
