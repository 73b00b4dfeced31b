import type { ConnectRouter } from "@connectrpc/connect";
import { ClusterService } from "#gen/cluster/cluster_pb.ts";
import { State } from "#gen/cosi/resource/resource_pb.ts";
import { ImageService, LifecycleService, MachineService } from "#gen/machine/machine_pb.ts";
import { StorageService } from "#gen/storage/storage_pb.ts";
import { TimeService } from "#gen/time/time_pb.ts";
import { clusterService } from "./cluster-service.ts";
import { etcdMethods } from "./etcd-methods.ts";
import { fileMethods } from "./file-methods.ts";
import { imageService } from "./image-service.ts";
import { lifecycleMethods } from "./lifecycle-methods.ts";
import { lifecycleService } from "./lifecycle-service.ts";
import { logMethods } from "./log-methods.ts";
import { statMethods } from "./stat-methods.ts";
import { stateService } from "./state-service.ts";
import { storageService } from "./storage-service.ts";
import { timeService } from "./time-service.ts";

/** The services of apid. A method that is not there answers `Unimplemented`. */
export function routes(router: ConnectRouter): void {
  router.service(MachineService, {
    ...lifecycleMethods,
    ...statMethods,
    ...logMethods,
    ...fileMethods,
    ...etcdMethods,
  });
  router.service(State, stateService);
  router.service(StorageService, storageService);
  router.service(TimeService, timeService);
  router.service(ClusterService, clusterService);
  router.service(ImageService, imageService);
  router.service(LifecycleService, lifecycleService);
}
