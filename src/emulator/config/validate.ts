import { X509Certificate } from "node:crypto";
import { IchorError } from "#lib/errors.ts";
import { at, isMapping, scalarText, textAt } from "./documents.ts";
import type { Authority, ConfigView } from "./view.ts";

/** Where the configuration is to be used. */
export interface ValidationContext {
  /** Partial configurations (no v1alpha1 document) are accepted only in maintenance. */
  readonly maintenance: boolean;
  readonly installed: boolean;
  readonly minor: number;
  /** Device paths of the machine's disks. */
  readonly disks: readonly string[];
}

/** Refuses what Talos refuses: throws `invalid_argument` with all reasons; answers warnings. */
export function validateConfig(config: ConfigView, context: ValidationContext): string[] {
  const errors: string[] = [];
  const warnings: string[] = [];
  checkDocuments(config, errors);
  const main = config.documents.find((document) => document.kind === "v1alpha1")?.body;
  if (!main) {
    if (!context.maintenance) errors.push("v1alpha1 config is required");
  } else checkMain(main, config, context, errors, warnings);
  if (errors.length > 0) {
    const list = errors.map((error) => `\t* ${error}`).join("\n");
    const count = errors.length === 1 ? "1 error" : `${errors.length} errors`;
    throw new IchorError("invalid_argument", `configuration validation failed: ${count} occurred:\n${list}\n\n`);
  }
  return warnings;
}

function checkMain(
  main: unknown,
  config: ConfigView,
  context: ValidationContext,
  errors: string[],
  warnings: string[],
): void {
  if (!isMapping(at(main, "machine"))) errors.push("machine instructions are required");
  if (!isMapping(at(main, "cluster"))) errors.push("cluster instructions are required");
  if (!["controlplane", "worker", "init"].includes(config.type))
    errors.push(`machine type is invalid: "${config.type}"`);
  if (config.type === "init") warnings.push('use "controlplane" instead of "init" for machine type');
  checkAuthority(config.os, "machine.ca", config.controlPlane, errors);
  checkAuthority(config.kubernetes, "cluster.ca", config.controlPlane, errors);
  if (config.controlPlane) checkAuthority(config.etcd, "cluster.etcd.ca", true, errors);
  else if (config.os.key) errors.push("issuing Talos API CA key is not allowed on non-controlplane nodes (machine.ca)");
  if (!config.token) errors.push("trustd token is required (machine.token)");
  checkEndpoint(config.endpoint, errors);
  if (!config.kubeletImage) warnings.push("kubelet image is not set; the default is used");
  if (
    config.install?.disk &&
    !context.installed &&
    context.disks.length > 0 &&
    !context.disks.includes(config.install.disk)
  ) {
    errors.push(`specified install disk does not exist: "${config.install.disk}"`);
  }
  if (!config.install && !context.installed && context.minor < 14)
    errors.push(`install instructions are required in "metal" mode`);
  const subnets = at(main, "cluster.network.podSubnets");
  if (
    subnets !== undefined &&
    !(Array.isArray(subnets) && subnets.every((subnet) => /^[0-9a-fA-F.:]+\/\d{1,3}$/.test(scalarText(subnet))))
  )
    errors.push("invalid pod subnet (cluster.network.podSubnets)");
  for (const [path, kind] of [
    ["cluster.clusterName", "KubeClusterConfig"],
    ["machine.kubelet", "KubeletConfig"],
    ["cluster.apiServer", "KubeAPIServerConfig"],
    ["cluster.ca", "KubeAPIServerCAConfig"],
  ] as const) {
    if (at(main, path) !== undefined && config.documents.some((document) => document.kind === kind))
      errors.push(`${path} is already set in the v1alpha1 config, ${kind} is not allowed`);
  }
}

function checkDocuments(config: ConfigView, errors: string[]): void {
  if (config.siderolink) {
    const url = URL.canParse(config.siderolink.url) ? new URL(config.siderolink.url) : undefined;
    if (!url) errors.push("SideroLinkConfig: apiUrl is required");
    else if (!["https:", "grpc:"].includes(url.protocol))
      errors.push("SideroLinkConfig: apiUrl scheme must be https:// or grpc://");
    else if (!["", "/"].includes(url.pathname)) errors.push("SideroLinkConfig: apiUrl path must be empty");
  }
  for (const { kind, body, name } of config.documents) {
    if (kind === "EventSinkConfig" && !/^(\[[0-9a-fA-F:.]+\]|[^:]+):\d+$/.test(textAt(body, "endpoint")))
      errors.push("EventSinkConfig: endpoint must be host:port");
    if (kind === "KmsgLogConfig" && (!name || !/^(tcp|udp):\/\/.+:\d+$/.test(textAt(body, "url"))))
      errors.push("KmsgLogConfig: name and a tcp:// or udp:// url are required");
    if (kind === "TrustedRootsConfig" && !textAt(body, "certificates").includes("BEGIN CERTIFICATE"))
      errors.push("TrustedRootsConfig: certificates is required");
  }
}

function checkAuthority(authority: Authority, where: string, withKey: boolean, errors: string[]): void {
  if (!authority.crt) {
    errors.push(`${withKey ? "issuing" : "trusted"} CA certificate is required (${where})`);
    return;
  }
  try {
    if (!new X509Certificate(authority.crt).ca) errors.push(`certificate is not a CA (${where})`);
  } catch {
    errors.push(`failed to parse PEM block (${where}.crt)`);
    return;
  }
  if (withKey && !authority.key) errors.push(`issuing CA key is required for controlplane nodes (${where})`);
}

function checkEndpoint(endpoint: string, errors: string[]): void {
  if (!endpoint) {
    errors.push("cluster.controlPlane.endpoint is required");
    return;
  }
  if (!URL.canParse(endpoint) || new URL(endpoint).protocol !== "https:" || endpoint.includes("@"))
    errors.push("cluster controlplane endpoint: must be an https:// URL");
}
