import { randomInt } from "node:crypto";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterEndpointKind } from "#kinds/cluster/cluster-endpoint.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { LoadBalancerConfigKind } from "#kinds/cluster/load-balancer-config.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { IchorError } from "#lib/errors.ts";
import { formatHostPort } from "#lib/ip.ts";
import { cluster, isControlPlane, members } from "./of-cluster.ts";

/** Ports inside the link that clusters get (protocols.md 15.6). */
const first = 10_000;
const last = 35_000;
/** The plane inside the link. */
const planeAddress = "fdae:41e4:649b:9303::1";
const apiPort = 6443;

/** Where the Kubernetes API of each cluster is reached, inside the link. */
export function loadBalancerControllers(): Controller[] {
  return [
    transform({
      name: "cluster-endpoint",
      purpose: "Lists the addresses of a cluster's control planes.",
      input: ClusterKind,
      output: ClusterEndpointKind,
      inputs: [
        { kind: ClusterMachineKind, wakes: cluster },
        {
          kind: MachineKind,
          wakes: async ({ id }, reader) => cluster((await reader.get(ClusterMachineKind, id))?.metadata ?? none),
        },
      ],
      async transform(context, { metadata }) {
        const machines = (await members(context, metadata.id)).filter(
          (machine) => isControlPlane(machine.metadata) && machine.metadata.phase === "running",
        );
        const found = await Promise.all(machines.map((machine) => context.get(MachineKind, machine.metadata.id)));
        const addresses = found.map((machine) => machine?.spec.managementAddress ?? "").filter(Boolean);
        return ({ spec }) => {
          spec.managementAddresses = addresses.sort();
        };
      },
    }),
    transform({
      name: "load-balancer-config",
      purpose: "Gives each cluster a port inside the link, for the Kubernetes API behind it.",
      input: ClusterKind,
      output: LoadBalancerConfigKind,
      inputs: [{ kind: ClusterEndpointKind }],
      async transform(context, { metadata }, current) {
        const endpoint = await context.get(ClusterEndpointKind, metadata.id);
        const port = current?.spec.bindPort || (await freePort(context));
        return ({ spec }) => {
          spec.bindPort = port;
          spec.siderolinkEndpoint = `https://${formatHostPort(planeAddress, Number(port))}`;
          spec.endpoints = (endpoint?.spec.managementAddresses ?? []).map((host) => formatHostPort(host, apiPort));
        };
      },
    }),
  ];
}

const none = { labels: {} } as Parameters<typeof cluster>[0];

/** One key at a time looks for a port, so two clusters never get the same. */
async function freePort(context: Parameters<Controller["reconcile"]>[1]): Promise<string> {
  const taken = new Set((await context.list(LoadBalancerConfigKind)).map(({ spec }) => spec.bindPort));
  if (taken.size > last - first) throw new IchorError("resource_exhausted", "no port is left for another cluster");
  for (;;) {
    const port = String(randomInt(first, last + 1));
    if (!taken.has(port)) return port;
  }
}
