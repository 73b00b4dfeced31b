import { IchorError } from "#lib/errors.ts";

/** What a machine knows of its plane (protocols.md 1). */
export interface JoinTarget {
  /** Host and port of the machine API. */
  readonly authority: string;
  /** TLS (`https://`) or plaintext HTTP/2 (`grpc://`). */
  readonly tls: boolean;
  /** Join token; undefined when the URL holds none. */
  readonly token: string | undefined;
  /** WireGuard through a gRPC stream was asked for. */
  readonly tunnel: boolean;
}

/** Reads a SideroLink API URL by the rules of protocols.md 1.2. Throws `invalid_argument`. */
export function parseApiUrl(text: string): JoinTarget {
  const full = text.includes("://") ? text : `grpc://${text}`;
  if (!URL.canParse(full)) throw new IchorError("invalid_argument", "the SideroLink API URL is not a URL");
  const url = new URL(full);
  const tls = url.protocol !== "grpc:";
  // URL treats grpc as an opaque scheme without default port; https hides 443.
  const port = url.port || (tls ? "443" : "");
  if (!url.hostname) throw new IchorError("invalid_argument", "the SideroLink API URL has no host");
  if (!port) throw new IchorError("invalid_argument", "the SideroLink API URL has no port");
  const token = url.searchParams.get("jointoken");
  return {
    authority: `${url.hostname}:${port}`,
    tls,
    token: token || undefined,
    tunnel: ["true", "y"].includes(url.searchParams.get("grpc_tunnel") ?? ""),
  };
}

/** The arguments of a kernel command line that matter for joining. */
export interface KernelArguments {
  readonly siderolink: string;
  /** `host:port` or "". */
  readonly eventSink: string;
  /** `tcp://host:port` texts. */
  readonly kmsg: readonly string[];
  /** All other arguments, as given. */
  readonly rest: readonly string[];
}

/** Takes a command line apart. */
export function parseKernelArguments(text: string): KernelArguments {
  const parts = text.split(/\s+/).filter((part) => part !== "");
  const values = (name: string) =>
    parts.filter((part) => part.startsWith(`${name}=`)).map((part) => part.slice(name.length + 1));
  const own = ["siderolink.api", "talos.events.sink", "talos.logging.kernel"];
  return {
    siderolink: values("siderolink.api").at(-1) ?? "",
    eventSink: values("talos.events.sink").at(-1) ?? "",
    kmsg: values("talos.logging.kernel"),
    rest: parts.filter((part) => !own.some((name) => part.startsWith(`${name}=`))),
  };
}
