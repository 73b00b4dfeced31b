import { Code, ConnectError } from "@connectrpc/connect";
import { LabelTerm_Operation } from "#gen/cosi/resource/resource_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { ExtensionsConfigurationKind } from "#kinds/cluster/extensions-configuration.ts";
import { KubernetesManifestGroupKind } from "#kinds/cluster/kubernetes-manifest-group.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { MachineSetNodeKind } from "#kinds/cluster/machine-set-node.ts";
import { label } from "#kinds/labels.ts";
import { LinkKind } from "#kinds/machine/link.ts";
import type { AnyKind } from "#resource/kind.ts";
import { inWords, state, unanswered } from "../api.ts";

/**
 * Destroys a cluster; resolves when it is gone. First machines and their sets, which takes as long as resetting does, since what describes
 * them must stay until then; the rest after. Interrupted anywhere, it goes on where it was when called again.
 */
export async function destroyCluster(name: string): Promise<void> {
  await destroyAll([MachineSetNodeKind, MachineSetKind], name);
  await destroyAll([ConfigPatchKind, ExtensionsConfigurationKind, KubernetesManifestGroupKind], name);
  await destroy(ClusterKind, name);
}

/** Removes a machine from the plane; resolves when it is gone. */
export async function forgetMachine(id: string): Promise<void> {
  await destroy(LinkKind, id);
}

async function destroyAll(kinds: readonly AnyKind[], cluster: string): Promise<void> {
  const ofCluster = { key: label.cluster, op: LabelTerm_Operation.EQUAL, value: [cluster] };
  const work: Promise<void>[] = [];
  for (const kind of kinds) {
    const { namespace, type } = kind;
    const options = { labelQuery: [{ terms: [ofCluster] }] };
    for await (const { resource } of state.list({ namespace, type, options }))
      if (resource?.metadata) work.push(destroy(kind, resource.metadata.id));
  }
  await Promise.all(work);
}

async function destroy(kind: AnyKind, id: string): Promise<void> {
  for (;;) {
    try {
      await state.teardownAndDestroy({ ...kind.key(id) });
      return;
    } catch (error) {
      // Somebody else was faster: it is gone, as it should be.
      if (ConnectError.from(error).code === Code.NotFound) return;
      if (!unanswered(error)) throw new Error(inWords(error), { cause: error });
    }
    // Resetting takes minutes, and a connection may end meanwhile: whoever asked expects it to go on.
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
