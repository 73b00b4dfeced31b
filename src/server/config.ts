import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import { IchorError } from "#lib/errors.ts";
import { formatHostPort, parseHostPort } from "#lib/ip.ts";

const hostPort = z.string().transform((text, context) => {
  try {
    return parseHostPort(text);
  } catch {
    context.addIssue({ code: "custom", message: `"${text}" is not HOST:PORT (IPv6 in brackets)` });
    return z.NEVER;
  }
});
const webUrl = (...schemes: string[]) =>
  z.string().refine((text) => URL.canParse(text) && schemes.includes(new URL(text).protocol), {
    error: ({ input }) =>
      `"${input}" is not a URL that begins with ${schemes.map((scheme) => `${scheme}//`).join(" or ")}`,
  });

const schema = z.strictObject({
  data: z.string().min(1),
  listen: hostPort.default({ host: "0.0.0.0", port: 8443 }),
  advertise: webUrl("https:").optional(),
  machineApi: hostPort.default({ host: "0.0.0.0", port: 8090 }),
  wireguard: hostPort.default({ host: "0.0.0.0", port: 50_180 }),
  link: z.enum(["user", "kernel"]).default("user"),
  imageFactory: webUrl("https:", "http:").default("https://factory.talos.dev"),
  kubernetesRegistry: z
    .string()
    .regex(/^[a-z0-9.-]+(:\d+)?(\/[a-z0-9._/-]+)?$/, "is not a repository such as registry.k8s.io")
    .default("registry.k8s.io"),
});

/** What an operator may say; all but `data` has a default. Texts as on the command line. */
export type PlaneOptions = z.input<typeof schema>;
/** The same, read and whole. */
export type PlaneConfig = z.output<typeof schema>;

const flags: Readonly<Record<string, string>> = {
  machineApi: "machine-api",
  imageFactory: "image-factory",
  kubernetesRegistry: "kubernetes-registry",
};

/** Reads the options. Throws `invalid_argument` that names the flag. */
export function readConfig(options: PlaneOptions): PlaneConfig {
  const read = schema.safeParse(options);
  if (!read.success) {
    const [issue] = read.error.issues;
    const field = String(issue?.path[0] ?? "");
    throw new IchorError("invalid_argument", `--${flags[field] ?? field}: ${issue?.message ?? "cannot be read"}`);
  }
  return { ...read.data, data: resolve(read.data.data) };
}

/** How others reach the plane's port. */
export function advertisedUrl({ advertise, listen }: PlaneConfig, boundPort: number): URL {
  return new URL(advertise ?? `https://${formatHostPort(reachable(listen.host), boundPort)}`);
}

/** What machines are told of the plane; they need an address where WireGuard is, names do for the rest. */
export async function advertised(
  config: PlaneConfig,
  url: URL,
  bound: { readonly machineApi: number; readonly wireguard: number },
): Promise<{ machineApi: string; wireguard: string }> {
  const name = url.hostname.replace(/^\[|\]$/g, "");
  const own = (host: string) => (isUnspecified(host) ? name : host);
  const wireguard = own(config.wireguard.host);
  let address = wireguard;
  if (isIP(wireguard) === 0) {
    try {
      ({ address } = await lookup(wireguard));
    } catch (cause) {
      throw new IchorError(
        "invalid_argument",
        `--advertise: the name ${wireguard} has no address; machines need one for WireGuard: use a name that resolves here, or an address`,
        { cause },
      );
    }
  }
  return {
    machineApi: `grpc://${formatHostPort(own(config.machineApi.host), bound.machineApi)}`,
    wireguard: formatHostPort(address, bound.wireguard),
  };
}

function isUnspecified(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** The address under which others find this machine. */
function reachable(host: string): string {
  if (!isUnspecified(host)) return host;
  const found = Object.values(networkInterfaces())
    .flat()
    .find((address) => address && !address.internal && address.family === "IPv4");
  return found?.address ?? "127.0.0.1";
}
