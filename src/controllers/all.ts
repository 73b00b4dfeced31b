import type { Controller } from "#engine/controller.ts";
import { clusterBasicsControllers } from "./cluster/cluster-basics.ts";
import { clusterBootstrapStatusController } from "./cluster/cluster-bootstrap-status.ts";
import { clusterMachineController } from "./cluster/cluster-machine.ts";
import { clusterMachineConfigControllers } from "./cluster/cluster-machine-config.ts";
import { clusterMachineConfigPatchesController } from "./cluster/cluster-machine-config-patches.ts";
import { clusterMachineConfigStatusController } from "./cluster/cluster-machine-config-status.ts";
import { clusterMachineStatusController } from "./cluster/cluster-machine-status.ts";
import { clusterProgressController } from "./cluster/cluster-progress.ts";
import { clusterStatusController } from "./cluster/cluster-status.ts";
import { controlPlaneStatusController } from "./cluster/control-plane-status.ts";
import { loadBalancerControllers } from "./cluster/load-balancer-config.ts";
import { machineSetStatusController } from "./cluster/machine-set-status.ts";
import type { Deps } from "./deps.ts";
import { joinTokenStatusController } from "./machine/join-token-status.ts";
import { machineController } from "./machine/machine.ts";
import { machineConfigGenOptionsController } from "./machine/machine-config-gen-options.ts";
import { machineStatusController } from "./machine/machine-status.ts";
import { pendingMachineStatusController } from "./machine/pending-machine-status.ts";

/** All controllers of the plane, in the order in which a machine meets them. */
export function controllers(deps: Deps): Controller[] {
  return [
    joinTokenStatusController(),
    pendingMachineStatusController(deps),
    machineController(),
    machineStatusController(deps),
    machineConfigGenOptionsController(deps),
    ...clusterBasicsControllers(deps),
    ...loadBalancerControllers(),
    clusterMachineController(),
    clusterMachineConfigPatchesController(),
    ...clusterMachineConfigControllers(deps),
    clusterMachineConfigStatusController(deps),
    clusterBootstrapStatusController(deps),
    clusterMachineStatusController(),
    machineSetStatusController(),
    controlPlaneStatusController(),
    clusterStatusController(),
    clusterProgressController(),
  ];
}
