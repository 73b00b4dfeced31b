import { create } from "@bufbuild/protobuf";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import {
  ConditionType,
  ControlPlaneStatusSpec_ConditionSchema,
  ControlPlaneStatusSpec_Condition_Severity as Severity,
  ControlPlaneStatusSpec_Condition_Status as Status,
} from "#gen/specs/specs_pb.ts";
import { ClusterMachineKind } from "#kinds/cluster/cluster-machine.ts";
import { ClusterMachineIdentityKind } from "#kinds/cluster/cluster-machine-identity.ts";
import { ControlPlaneStatusKind } from "#kinds/cluster/control-plane-status.ts";
import { MachineSetKind } from "#kinds/cluster/machine-set.ts";
import { label } from "#kinds/labels.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { MachineServicesKind } from "#kinds/machine/machine-services.ts";
import { labelled } from "#resource/query.ts";
import { isControlPlane, machineSet } from "./of-cluster.ts";

/** Tells whether control planes are connected and etcd is whole; made of what machines tell by watch, nothing is asked. */
export function controlPlaneStatusController(): Controller {
  const ofMember = {
    wakes: async (
      { id }: { readonly id: string },
      reader: Parameters<NonNullable<Controller["inputs"][0]["wakes"]>>[1],
    ) => {
      const machine = await reader.get(ClusterMachineKind, id);
      return machine && isControlPlane(machine.metadata) ? machineSet(machine.metadata) : [];
    },
  };
  return transform({
    name: "control-plane-status",
    purpose: "Tells whether a cluster's control planes are connected and its etcd is whole.",
    input: MachineSetKind,
    output: ControlPlaneStatusKind,
    inputs: [
      { kind: ClusterMachineKind, wakes: machineSet },
      { kind: ClusterMachineIdentityKind, wakes: machineSet },
      { kind: MachineKind, ...ofMember },
      { kind: MachineServicesKind, ...ofMember },
    ],
    concurrency: 8,
    async transform(context, { metadata }) {
      if (!isControlPlane(metadata)) return false;
      const machines = await context.list(ClusterMachineKind, labelled({ [label.machineSet]: metadata.id }));
      const away: string[] = [];
      const sick: string[] = [];
      let memberIds = 0;
      for (const { metadata: machine } of machines) {
        const { id } = machine;
        if (!(await context.get(MachineKind, id))?.spec.connected) away.push(id);
        const services = (await context.get(MachineServicesKind, id))?.spec.services ?? [];
        const etcd = services.find(({ name }) => name === "etcd");
        if (!(etcd?.running && etcd.healthy)) sick.push(id);
        if ((await context.get(ClusterMachineIdentityKind, id))?.spec.etcdMemberId) memberIds++;
      }
      const connection = condition(
        ConditionType.WireguardConnection,
        away.length ? `${away.length} of ${machines.length} are not connected: ${away.join(", ")}` : "",
      );
      const etcd = away.length
        ? create(ControlPlaneStatusSpec_ConditionSchema, {
            type: ConditionType.Etcd,
            reason: "not all control planes are connected",
            severity: Severity.Warning,
          })
        : condition(
            ConditionType.Etcd,
            sick.length
              ? `etcd is not healthy on ${sick.join(", ")}`
              : memberIds < machines.length
                ? `${memberIds} of ${machines.length} control planes are members of etcd`
                : "",
          );
      return ({ spec, labels }) => {
        Object.assign(labels, metadata.labels);
        spec.conditions = machines.length ? [connection, etcd] : [];
      };
    },
  });
}

function condition(type: ConditionType, problem: string) {
  return create(ControlPlaneStatusSpec_ConditionSchema, {
    type,
    reason: problem,
    status: problem ? Status.NotReady : Status.Ready,
    severity: problem ? Severity.Error : Severity.Info,
  });
}
