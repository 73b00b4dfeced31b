import type { Boot } from "#emulator/boot.ts";
import type { KubeObject } from "#emulator/kubeapi/objects.ts";
import { KubeClient } from "#emulator/kubereal/client.ts";
import type { RealControlPlane } from "#emulator/kubereal/control-plane.ts";
import { abortable, sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import { messageOf } from "#lib/errors.ts";
import { conditionsOf, nodeObject, showNode } from "./node-object.ts";

/** As kubelets do: the lease every 10 s, the whole status every 5 minutes. */
const heartbeat = 10_000;
const beatsPerStatus = 30;
const mergePatch = "application/merge-patch+json";
const strategicPatch = "application/strategic-merge-patch+json";
/** What a kubelet may say of itself; other labels under kubernetes.io are for the control plane (NodeRestriction). */
const ownLabels = new Set([
  "beta.kubernetes.io/arch",
  "beta.kubernetes.io/os",
  "kubernetes.io/arch",
  "kubernetes.io/hostname",
  "kubernetes.io/os",
]);

/**
 * A node in a real API server: its kubelet goes through the link and the plane's load balancer with its own client certificate. What the
 * controller manager does for a node (role, taint, silence) is done past the link, as the cluster's administrator.
 */
export class RealNode {
  readonly #boot: Boot;
  readonly #control: RealControlPlane;
  readonly #name: string;
  #client: KubeClient | undefined;
  /** What takes away the labels that were set. */
  #labels: Record<string, null> = {};

  constructor(boot: Boot, control: RealControlPlane) {
    this.#boot = boot;
    this.#control = control;
    this.#name = boot.hostname;
    boot.signal.addEventListener("abort", () => this.#client?.close(), { once: true });
  }

  /** Makes the Node, not ready yet. Throws where that is not possible now. */
  async register(): Promise<void> {
    const { signal } = this.#boot;
    const client = await this.#connect();
    const node = nodeObject(this.#boot);
    const labels = Object.entries(node.metadata.labels ?? {});
    const metadata = { ...node.metadata, labels: Object.fromEntries(labels.filter(([key]) => ownLabels.has(key))) };
    await client.need(signal, "POST", "/api/v1/nodes", { ...node, metadata }, { also: [409] });
    await this.#tell(false);
    await this.#label();
  }

  /** Role and labels of the configuration; those that it no longer has are taken away. */
  async #label(): Promise<void> {
    const { signal, config } = this.#boot;
    const client = await this.#connect();
    const now = Object.entries(nodeObject(this.#boot).metadata.labels ?? {}).filter(([key]) => !ownLabels.has(key));
    const more: Record<string, string | null> = { ...this.#labels, ...Object.fromEntries(now) };
    // A control plane labels itself as administrator; a worker has only its kubelet's rights, and says so where they do not reach.
    const who = config?.controlPlane ? this.#admin() : client;
    const { status } = await who.request(signal, "PATCH", this.#path, { metadata: { labels: more } }, mergePatch);
    if (status >= 300) this.#note(`labels of the node are refused with ${status}`);
    this.#labels = Object.fromEntries(now.map(([key]) => [key, null]));
  }

  /** Keeps the node ready until the boot ends. */
  async run(): Promise<void> {
    const { signal, chassis } = this.#boot;
    const { clock, delays } = chassis;
    signal.addEventListener("abort", () => void this.#silence(), { once: true });
    this.#follow().catch(() => {});
    let changed = Promise.withResolvers<void>();
    let beat = 0;
    this.#boot.onConfig.add(() => {
      beat = 0;
      changed.resolve();
    });
    for (let failed = 0; !signal.aborted; ) {
      try {
        await this.#renew();
        changed = Promise.withResolvers<void>();
        if (beat++ % beatsPerStatus === 0) {
          await this.#tell(true);
          await this.#label();
          await this.#admit();
          this.#boot.setUnmet("nodeReady", undefined);
        }
        failed = 0;
        await this.#rest(changed.promise);
      } catch (error) {
        signal.throwIfAborted();
        beat = 0;
        this.#note(`cannot reach the API server: ${messageOf(error)}`);
        await sleep(backoffDelay(failed++, { initial: delays.retry, max: heartbeat }), clock, signal);
      }
    }
  }

  /** Until the next heartbeat, or the configuration changes. */
  async #rest(changed: Promise<void>): Promise<void> {
    const woken = new AbortController();
    const signal = AbortSignal.any([this.#boot.signal, woken.signal]);
    changed.then(() => woken.abort(new Error("configuration changed")));
    await sleep(heartbeat, this.#boot.chassis.clock, signal).catch(() => this.#boot.signal.throwIfAborted());
  }

  get #path(): string {
    return `/api/v1/nodes/${encodeURIComponent(this.#name)}`;
  }
  #note(text: string): void {
    this.#boot.kernel.write(`[talos] kubelet: ${text}`, "daemon", "warning");
  }
  #admin(): KubeClient {
    const { admin } = this.#control;
    if (!admin) throw new Error("the control plane does not run");
    return admin;
  }

  async #connect(): Promise<KubeClient> {
    const { config } = this.#boot;
    if (!config) throw new Error("no configuration");
    if (this.#client) return this.#client;
    const endpoint = new URL(config.endpoint);
    const host = endpoint.hostname.replace(/^\[|\]$/g, "");
    const identity = await this.#control.kubelet(this.#name);
    this.#client ??= new KubeClient({
      host,
      ca: config.kubernetes.crt,
      identity,
      dial: (signal) => {
        if (!this.#boot.network) throw new Error("no network yet");
        return this.#boot.network.connect(host, Number(endpoint.port || 443), signal);
      },
    });
    return this.#client;
  }

  async #tell(ready: boolean): Promise<void> {
    const client = await this.#connect();
    const { status } = nodeObject(this.#boot);
    const body = { status: { ...(status as object), conditions: conditionsOf(this.#boot, ready) } };
    await client.need(this.#boot.signal, "PATCH", `${this.#path}/status`, body, { type: strategicPatch });
  }

  /** Takes away the taint that a new node carries until it is ready, as the controller manager does. */
  async #admit(): Promise<void> {
    const { signal } = this.#boot;
    const { body } = await this.#admin().need(signal, "GET", this.#path);
    const { metadata, spec } = body as KubeObject & { spec?: { taints?: { key: string }[] } };
    const taints = spec?.taints ?? [];
    const rest = taints.filter(({ key }) => !/^node\.kubernetes\.io\/(not-ready|unreachable)$/.test(key));
    if (rest.length === taints.length) return;
    const change = { metadata: { resourceVersion: metadata.resourceVersion }, spec: { taints: rest } };
    await this.#admin().need(signal, "PATCH", this.#path, change, { type: mergePatch });
  }

  async #renew(): Promise<void> {
    const { signal, chassis } = this.#boot;
    const client = await this.#connect();
    const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    const renewTime = new Date(chassis.clock.now()).toISOString().replace("Z", "000Z");
    const spec = { holderIdentity: this.#name, leaseDurationSeconds: 40, renewTime };
    const path = `${leases}/${encodeURIComponent(this.#name)}`;
    const { status } = await client.need(signal, "PATCH", path, { spec }, { type: mergePatch, also: [404] });
    if (status !== 404) return;
    const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: this.#name }, spec };
    await client.need(signal, "POST", leases, lease);
  }

  /** Shows its own node to the machine API as it is in Kubernetes. */
  async #follow(): Promise<void> {
    const { signal, chassis } = this.#boot;
    const query = `watch=true&fieldSelector=${encodeURIComponent(`metadata.name=${this.#name}`)}`;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        const client = await this.#connect();
        for await (const { type, object } of client.watch(signal, `/api/v1/nodes?${query}`)) {
          attempt = 0;
          if (type === "ADDED" || type === "MODIFIED") showNode(this.#boot, object);
          else if (type === "DELETED") showNode(this.#boot, undefined);
        }
      } catch {
        signal.throwIfAborted();
      }
      const { retry, retryMax } = chassis.delays;
      await sleep(backoffDelay(attempt, { initial: retry, max: retryMax }), chassis.clock, signal);
    }
  }

  /** The machine is down: its node is unknown. The controller manager would wait for 40 s of silence. */
  async #silence(): Promise<void> {
    const body = { status: { conditions: conditionsOf(this.#boot, undefined).slice(-1) } };
    const signal = AbortSignal.timeout(5000);
    await abortable(
      (async () => this.#admin().request(signal, "PATCH", `${this.#path}/status`, body, strategicPatch))(),
      signal,
    ).catch(() => {});
  }
}
