import { createHash, randomBytes } from "node:crypto";
import { at, type Document, isMapping, parseDocuments, scalarText, textAt, textsAt } from "./documents.ts";

/** PEM of a certificate authority; the key only where this machine issues. */
export interface Authority {
  readonly crt: string;
  readonly key: string;
}

/** What the emulator takes from a configuration, whichever form (v1alpha1 or the documents of 1.14) says it. */
export interface ConfigView {
  readonly text: string;
  readonly documents: readonly Document[];
  /** True when the v1alpha1 document is there: enough to leave maintenance. */
  readonly complete: boolean;
  readonly controlPlane: boolean;
  readonly type: string;
  /** Token for trustd. */
  readonly token: string;
  /** Bootstrap token of Kubernetes. */
  readonly bootstrapToken: string;
  readonly os: Authority;
  /** PEMs of further OS authorities. */
  readonly acceptedOS: readonly string[];
  readonly kubernetes: Authority;
  readonly etcd: Authority;
  /** Of the aggregation layer. */
  readonly aggregator: Authority;
  readonly serviceAccountKey: string;
  readonly clusterId: string;
  readonly clusterName: string;
  /** `https://host:port` */
  readonly endpoint: string;
  readonly certSANs: readonly string[];
  readonly apiServerSANs: readonly string[];
  /** "" when the machine is to choose a name itself. */
  readonly hostname: string;
  readonly install: { readonly disk: string; readonly image: string } | undefined;
  readonly kubeletImage: string;
  readonly images: { readonly apiServer: string; readonly controllerManager: string; readonly scheduler: string };
  readonly nodeLabels: Readonly<Record<string, string>>;
  readonly schedulable: boolean;
  readonly siderolink: { readonly url: string; readonly uniqueToken: string } | undefined;
  readonly eventSink: string;
  readonly kmsg: readonly string[];
  readonly trustedRoots: readonly string[];
}

/** Reads a configuration. Throws `invalid_argument` for what does not decode; does not validate. */
export function viewConfig(bytes: Uint8Array): ConfigView {
  return viewDocuments(parseDocuments(bytes), new TextDecoder().decode(bytes));
}

/** The documents of both, those of `extra` winning: how a machine adds what it was given before. */
export function mergeDocuments(base: readonly Document[], extra: readonly Document[]): Document[] {
  const id = (document: Document) => `${document.kind}/${document.name}`;
  const replaced = new Set(extra.map(id));
  return [...base.filter((document) => !replaced.has(id(document))), ...extra];
}

/** The view of documents that were read before. */
export function viewDocuments(documents: readonly Document[], text: string): ConfigView {
  const body = (kind: string) => documents.find((document) => document.kind === kind)?.body;
  const main = body("v1alpha1");
  const type = textAt(main, "machine.type");
  const link = body("SideroLinkConfig");
  const kubeCA = body("KubeAPIServerCAConfig");
  const aggregatorCA = body("KubeAggregatorCAConfig");
  const installImage = textAt(main, "machine.install.image");
  const labels = at(body("KubeNodeConfig"), "labels") ?? at(main, "machine.nodeLabels");
  return {
    text,
    documents,
    complete: main !== undefined,
    controlPlane: type === "controlplane" || type === "init",
    type,
    token: textAt(main, "machine.token"),
    bootstrapToken: textAt(main, "cluster.token"),
    os: authority(main, "machine.ca"),
    acceptedOS: acceptedCAs(main, "machine.acceptedCAs"),
    kubernetes: kubeCA
      ? {
          crt: textAt(kubeCA, "issuingCA.cert") || (textsAt(kubeCA, "acceptedCAs")[0] ?? ""),
          key: textAt(kubeCA, "issuingCA.key"),
        }
      : authority(main, "cluster.ca"),
    etcd: authority(main, "cluster.etcd.ca"),
    aggregator: aggregatorCA
      ? { crt: textAt(aggregatorCA, "issuingCA.cert"), key: textAt(aggregatorCA, "issuingCA.key") }
      : authority(main, "cluster.aggregatorCA"),
    serviceAccountKey:
      decode(textAt(main, "cluster.serviceAccount.key")) ||
      textAt(body("KubeServiceAccountConfig"), "issuer.privateKey"),
    clusterId: textAt(body("DiscoveryIdentityConfig"), "clusterID") || textAt(main, "cluster.id"),
    clusterName: textAt(body("KubeClusterConfig"), "clusterName") || textAt(main, "cluster.clusterName"),
    endpoint: textAt(body("KubeClusterConfig"), "endpoint") || textAt(main, "cluster.controlPlane.endpoint"),
    certSANs: textsAt(main, "machine.certSANs"),
    apiServerSANs: [
      ...textsAt(main, "cluster.apiServer.certSANs"),
      ...textsAt(body("KubeAPIServerConfig"), "certExtraSANs"),
    ],
    hostname: textAt(body("HostnameConfig"), "hostname") || textAt(main, "machine.network.hostname"),
    install:
      installImage || at(main, "machine.install")
        ? { disk: textAt(main, "machine.install.disk"), image: installImage }
        : undefined,
    kubeletImage: textAt(body("KubeletConfig"), "image") || textAt(main, "machine.kubelet.image"),
    images: {
      apiServer: textAt(body("KubeAPIServerConfig"), "image") || textAt(main, "cluster.apiServer.image"),
      controllerManager:
        textAt(body("KubeControllerManagerConfig"), "image") || textAt(main, "cluster.controllerManager.image"),
      scheduler: textAt(body("KubeSchedulerConfig"), "image") || textAt(main, "cluster.scheduler.image"),
    },
    nodeLabels: isMapping(labels) ? Object.fromEntries(Object.entries(labels).map(([k, v]) => [k, scalarText(v)])) : {},
    schedulable:
      at(main, "cluster.allowSchedulingOnControlPlanes") === true ||
      at(main, "cluster.allowSchedulingOnMasters") === true ||
      (body("KubeNodeConfig") !== undefined && at(body("KubeNodeConfig"), "taints") === undefined),
    siderolink: link ? { url: textAt(link, "apiUrl"), uniqueToken: textAt(link, "uniqueToken") } : undefined,
    eventSink: textAt(body("EventSinkConfig"), "endpoint"),
    kmsg: documents
      .filter((document) => document.kind === "KmsgLogConfig")
      .map((document) => textAt(document.body, "url")),
    trustedRoots: documents
      .filter((document) => document.kind === "TrustedRootsConfig")
      .map((document) => textAt(document.body, "certificates")),
  };
}

/** A node id as Talos makes them: base62 of 32 random bytes. */
export function newNodeId(): string {
  let value = BigInt(`0x${randomBytes(32).toString("hex")}`);
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  let text = "";
  for (; value > 0n; value /= 62n) text = digits[Number(value % 62n)] + text;
  return text;
}

/** The name a machine takes when none is configured: `talos-` and six characters that stay the same (`auto: stable`). */
export function stableHostname(identity: string): string {
  const hash = createHash("sha256").update(identity).digest();
  return `talos-${[...hash.subarray(0, 6)].map((byte) => "0123456789abcdefghijklmnopqrstuvwxyz"[byte % 36]).join("")}`;
}

function authority(main: unknown, path: string): Authority {
  return { crt: decode(textAt(main, `${path}.crt`)), key: decode(textAt(main, `${path}.key`)) };
}

function acceptedCAs(main: unknown, path: string): string[] {
  const list = at(main, path);
  return Array.isArray(list) ? list.map((item) => decode(textAt(item, "crt"))).filter((pem) => pem !== "") : [];
}

function decode(base64: string): string {
  return Buffer.from(base64, "base64").toString("utf8");
}
