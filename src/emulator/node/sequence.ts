import type { Boot } from "#emulator/boot.ts";
import { KubeServer } from "#emulator/kubeapi/server.ts";
import { types } from "#emulator/state/types.ts";
import { messageOf } from "#lib/errors.ts";
import { parseIP } from "#lib/ip.ts";
import { runEtcd } from "./etcd-service.ts";
import { runKubelet } from "./kubelet.ts";
import { runStaticPods } from "./static-pods.ts";

/** The boot sequence of a configured machine and its life after it. */
export async function runNode(boot: Boot): Promise<void> {
  const { config, chassis } = boot;
  if (!config) return;
  const cluster = chassis.clusters.of(config);
  boot.cluster = cluster;
  fill(boot);
  boot.onConfig.add(() => fill(boot));
  const leave = cluster.enter(boot);
  boot.signal.addEventListener("abort", leave, { once: true });
  await boot.sequence("boot", async () => {
    await boot.phase("saveStateEncryptionConfig", ["SaveStateEncryptionConfig"]);
    await boot.phase("mountState", ["mountStatePartition"]);
    await boot.phase("saveConfig", ["saveConfig"]);
    await boot.phase("env", ["setUserEnvVars"]);
    await boot.phase("containerd", ["startContainerd"], async () => {
      for (const id of ["containerd", "syslogd", "auditd", "cri", "dashboard"])
        boot.services.run(id, id === "dashboard" || id === "auditd" ? undefined : true);
    });
    await boot.phase("startEverything", ["startAllServices"], async () => {
      boot.services.run("apid");
      if (config.controlPlane) boot.services.run("trustd");
      const started = Promise.withResolvers<void>();
      const fail = (error: unknown) => started.reject(error);
      boot.setUnmet("nodeReady", "node is not ready");
      if (config.controlPlane) {
        const api = new KubeServer(boot, cluster);
        const unserved = (error: unknown) => {
          if (boot.signal.aborted) return;
          boot.kernel.write(`[talos] kube-apiserver does not start: ${messageOf(error)}`, "user", "err");
          chassis.log.warn({ machine: boot.uuid, error }, "emulated API server cannot be served");
        };
        let running = false;
        runEtcd(boot, cluster, (healthy) => {
          if (healthy) api.start().catch(unserved);
          else api.stop();
          if (healthy && !running) {
            running = true;
            runStaticPods(boot, cluster);
            started.resolve();
          }
        }).catch(fail);
      } else started.resolve();
      runKubelet(boot, cluster).catch((error) => chassis.log.debug({ error }, "kubelet ended"));
      boot.signal.addEventListener("abort", () => fail(boot.signal.reason), { once: true });
      await started.promise;
    });
  });
  boot.setStage("running");
  boot.kernel.talos("machine is running and ready");
}

/** Resources that a configured machine has. */
function fill(boot: Boot): void {
  const { config, cluster, state } = boot;
  if (!config || !cluster) return;
  state.put(types.identity, "local", { nodeId: boot.nodeId() });
  state.put(types.clusterInfo, "current", { clusterId: config.clusterId, clusterName: config.clusterName });
  state.put(types.nodename, "nodename", { nodename: boot.hostname, hostnameVersion: "1" });
  state.put(types.nodeIP, "kubelet", { addresses: [{ ip: parseIP(boot.chassis.hardware.lan.address) }] });
  if (config.kubeletImage)
    state.put(types.kubelet, "kubelet", {
      image: config.kubeletImage,
      args: ["--config=/etc/kubernetes/kubelet.yaml", `--hostname-override=${boot.hostname}`],
      expectedNodename: boot.hostname,
    });
}
