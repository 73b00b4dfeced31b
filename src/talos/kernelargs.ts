import { stringify } from "yaml";

/** Where machines find the plane. */
export interface JoinTarget {
  /** `grpc://HOST:PORT` or `https://HOST:PORT`. */
  readonly apiUrl: string;
  readonly joinToken: string;
  /** Carry WireGuard over gRPC. */
  readonly tunnel: boolean;
  /** The plane's address inside the link. */
  readonly planeAddress: string;
  readonly eventsPort: number;
  readonly logsPort: number;
}

/** The URL of the machine API with token and tunnel switch (protocols.md 1.2). */
export function siderolinkUrl({ apiUrl, joinToken, tunnel }: JoinTarget): string {
  const query = new URLSearchParams({ jointoken: joinToken, ...(tunnel ? { grpc_tunnel: "true" } : {}) });
  return `${apiUrl.replace(/\/$/, "")}?${query}`;
}

/** Kernel arguments that make a stock machine join (protocols.md 1.4). */
export function kernelArgs(target: JoinTarget): string[] {
  return [
    `siderolink.api=${siderolinkUrl(target)}`,
    `talos.events.sink=[${target.planeAddress}]:${target.eventsPort}`,
    `talos.logging.kernel=tcp://[${target.planeAddress}]:${target.logsPort}`,
  ];
}

/** The same as configuration documents. `withLink` false leaves SideroLinkConfig out: the base of maintenance. */
export function joinDocuments(target: JoinTarget, withLink = true): Record<string, unknown>[] {
  const of = (kind: string, fields: object) => ({ apiVersion: "v1alpha1", kind, ...fields });
  return [
    ...(withLink ? [of("SideroLinkConfig", { apiUrl: siderolinkUrl(target) })] : []),
    of("EventSinkConfig", { endpoint: `[${target.planeAddress}]:${target.eventsPort}` }),
    of("KmsgLogConfig", { name: "omni-kmsg", url: `tcp://[${target.planeAddress}]:${target.logsPort}` }),
  ];
}

/** Documents as one YAML text. */
export function joinConfig(target: JoinTarget): string {
  return joinDocuments(target)
    .map((document) => stringify(document))
    .join("---\n");
}
