import { randomUUID } from "node:crypto";
import type { Deps } from "#controllers/deps.ts";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import { label } from "#kinds/labels.ts";
import { ClusterConfigVersionKind } from "#kinds/upgrade/cluster-config-version.ts";
import { encodeSecrets, makeSecrets } from "#talos/secrets.ts";
import { cluster, members } from "./of-cluster.ts";

/** What a cluster keeps for its whole life: made once, never changed. */
export function clusterBasicsControllers({ clock }: Deps): Controller[] {
  return [
    transform({
      name: "cluster-uuid",
      purpose: "Tells clusters of one name over time apart.",
      input: ClusterKind,
      output: ClusterUUIDKind,
      async transform(_context, _cluster, current) {
        if (current) return false;
        const uuid = randomUUID();
        return ({ spec, labels }) => {
          spec.uuid = uuid;
          labels[label.clusterUUID] = uuid;
        };
      },
    }),
    transform({
      name: "cluster-config-version",
      purpose: "Freezes the version contract that a cluster's configurations are generated with.",
      input: ClusterKind,
      output: ClusterConfigVersionKind,
      async transform(_context, { spec }, current) {
        if (current?.spec.version) return false;
        return (draft) => {
          draft.spec.version = `v${spec.talosVersion}`;
        };
      },
    }),
    transform({
      name: "cluster-secrets",
      purpose: "Makes the secrets of a cluster, and keeps them until its last machine was reset.",
      input: ClusterKind,
      output: ClusterSecretsKind,
      inputs: [{ kind: ClusterMachineKind, wakes: cluster }],
      concurrency: 4,
      async transform(_context, _cluster, current) {
        if (current) return false;
        const data = encodeSecrets(await makeSecrets(clock));
        return ({ spec }) => {
          spec.data = data;
        };
      },
      teardown: async (context, { metadata }) => (await members(context, metadata.id)).length === 0,
    }),
  ];
}
