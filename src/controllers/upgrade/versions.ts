import { KubernetesVersionKind } from "#kinds/upgrade/kubernetes-version.ts";
import { TalosVersionKind } from "#kinds/upgrade/talos-version.ts";
import type { AnyKind } from "#resource/kind.ts";
import type { State } from "#store/state.ts";
import { knownVersions } from "#talos/compatibility.ts";

/** Writes the versions that this plane knows, and takes away those that it does not know any more. Once, at start. */
export async function publishVersions(state: State): Promise<void> {
  const own = state.as("versions");
  const talos = knownVersions();
  const kubernetes = new Set(talos.flatMap((version) => version.kubernetes));
  for (const version of talos) {
    await own.modify(TalosVersionKind, version.talos, ({ spec }) => {
      spec.version = version.talos;
      spec.compatibleKubernetesVersions = version.kubernetes;
    });
  }
  for (const version of kubernetes) {
    await own.modify(KubernetesVersionKind, version, ({ spec }) => {
      spec.version = version;
    });
  }
  const known = new Set([...talos.map((version) => version.talos), ...kubernetes]);
  for (const kind of [TalosVersionKind, KubernetesVersionKind] as AnyKind[]) {
    for (const { metadata } of await own.list(kind)) {
      if (known.has(metadata.id)) continue;
      await own.teardown(kind.key(metadata.id));
      await own.destroy(kind.key(metadata.id));
    }
  }
}
