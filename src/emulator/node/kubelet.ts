import { request } from "node:https";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { isIP } from "#emulator/apid/certificates.ts";
import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import type { KubeObject } from "#emulator/kubeapi/objects.ts";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import { messageOf } from "#lib/errors.ts";
import { conditionsOf, nodeObject, showNode } from "./node-object.ts";
import { RealNode } from "./real-node.ts";

/**
 * The kubelet: registers its node through the cluster endpoint of the configuration, over the link and the plane's load balancer, with
 * TLS verified against the cluster's authority; then keeps the node's status until the boot ends: in the process, or through a real API.
 */
export async function runKubelet(boot: Boot, cluster: Cluster): Promise<void> {
  const { clock, delays } = boot.chassis;
  boot.services.run("kubelet");
  const real = cluster.real && new RealNode(boot, cluster.real);
  for (let attempt = 0; ; attempt++) {
    boot.signal.throwIfAborted();
    try {
      await (real ? real.register() : register(boot));
      break;
    } catch (error) {
      boot.signal.throwIfAborted();
      boot.kernel.write(
        `[talos] kubelet: unable to register node with API server: ${messageOf(error)}`,
        "daemon",
        "warning",
      );
      await Promise.race([
        sleep(backoffDelay(attempt, { initial: delays.retry, max: delays.retryMax }), clock, boot.signal),
        etcdChange(cluster, boot),
      ]);
    }
  }
  await sleep(delays.kubelet, clock, boot.signal);
  if (real) return real.run();
  setReady(boot, cluster, true);
  let labels = Object.keys(nodeObject(boot).metadata.labels ?? {});
  boot.onConfig.add(() => {
    setReady(boot, cluster, true, labels);
    labels = Object.keys(nodeObject(boot).metadata.labels ?? {});
  });
  const down = () => setReady(boot, cluster, false);
  boot.signal.addEventListener("abort", down, { once: true });
  boot.setUnmet("nodeReady", undefined);
  const stop = cluster.objects.subscribe((event) => {
    if (event.resource !== "/nodes" || event.object.metadata.name !== boot.hostname) return;
    showNode(boot, event.type === "DELETED" ? undefined : event.object);
  });
  boot.signal.addEventListener("abort", stop, { once: true });
}

/** Resolves shortly after the next change of etcd, so that a kubelet that waits for its API server is not late. */
function etcdChange(cluster: Cluster, boot: Boot): Promise<void> {
  return new Promise((resolve) => {
    const stop = cluster.onChange(() => {
      stop();
      boot.chassis.clock.after(boot.chassis.delays.retry, resolve);
    });
    boot.signal.addEventListener(
      "abort",
      () => {
        stop();
        resolve();
      },
      { once: true },
    );
  });
}

async function register(boot: Boot): Promise<void> {
  const { network, config } = boot;
  if (!network || !config) throw new Error("no network yet");
  const endpoint = new URL(config.endpoint);
  const host = endpoint.hostname.replace(/^\[|\]$/g, "");
  const signal = AbortSignal.any([boot.signal, AbortSignal.timeout(15_000)]);
  const raw = await network.connect(host, Number(endpoint.port || 443), signal);
  raw.on("error", () => {});
  const socket = tlsConnect({
    socket: raw,
    host,
    ca: [config.kubernetes.crt],
    ALPNProtocols: ["http/1.1"],
    ...(isIP(host) ? {} : { servername: host }),
  });
  socket.on("error", () => {});
  const stop = () => socket.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const node = nodeObject(boot);
    const status = await post(socket, "/api/v1/nodes", node, config.bootstrapToken, signal);
    if (status !== 201 && status !== 409) throw new Error(`the API server answered ${status}`);
  } finally {
    signal.removeEventListener("abort", stop);
    socket.destroy();
    raw.destroy();
  }
}

function post(socket: TLSSocket, path: string, body: object, token: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("connection closed")));
    const call = request(
      {
        path,
        method: "POST",
        createConnection: () => socket,
        signal,
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      },
      (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode ?? 0));
      },
    );
    call.on("error", reject);
    call.end(JSON.stringify(body));
  });
}

/** Tells of the node as it is now; of the labels `owned` those that the configuration no longer has are taken away. */
function setReady(boot: Boot, cluster: Cluster, ready: boolean, owned: readonly string[] = []): void {
  const current = cluster.objects.get("/nodes", "", boot.hostname);
  if (!current) return;
  const fresh = nodeObject(boot);
  const others = Object.entries(current.metadata.labels ?? {}).filter(([label]) => !owned.includes(label));
  const next: KubeObject = {
    ...current,
    metadata: { ...current.metadata, labels: { ...Object.fromEntries(others), ...fresh.metadata.labels } },
    status: { ...(fresh.status as object), conditions: conditionsOf(boot, ready || undefined) },
  };
  cluster.objects.update("/nodes", next);
  if (ready) showNode(boot, next);
}
