import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { formatHostPort } from "#lib/ip.ts";

/** A wireguard-go that is ending holds its port for some milliseconds more. */
const patience = 1_000;
const otherwise = "or use --link user, which needs no privilege";
/** Bit of CAP_NET_ADMIN in a set of capabilities. */
const netAdmin = 1n << 12n;

/** Throws, with what to do, where no interface can be made for us or configured by programs that we start. */
export function checkPrivilege(): void {
  if (process.platform !== "linux")
    throw new IchorError("failed_precondition", `--link kernel is for Linux alone: use --link user`);
  const status = read("/proc/self/status") ?? "";
  const has = (set: string) =>
    (BigInt(`0x${new RegExp(`^${set}:\\s*([0-9a-f]+)`, "m").exec(status)?.[1] ?? "0"}`) & netAdmin) !== 0n;
  // What root has, programs that it starts have too; what others have, only if it is ambient.
  if (!has("CapEff") || !(process.geteuid?.() === 0 || has("CapAmb")))
    throw new IchorError(
      "permission_denied",
      `--link kernel needs root, or CAP_NET_ADMIN for it and its programs (in a systemd unit: AmbientCapabilities=CAP_NET_ADMIN): start it so, ${otherwise}`,
    );
  if (read("/proc/net/if_inet6") === undefined || read("/proc/sys/net/ipv6/conf/default/disable_ipv6")?.trim() === "1")
    throw new IchorError(
      "failed_precondition",
      `--link kernel needs IPv6, which is off here: sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0, ${otherwise}`,
    );
}

/**
 * A UDP port that nobody has, of IPv4 and IPv6, since the interface takes both: that of `bind`, or any for 0. Throws `already_exists`;
 * wireguard-go would only note it somewhere. Waits a moment for one that an earlier run is still letting go of.
 */
export async function freePort({ host, port }: { host: string; port: number }, clock: Clock): Promise<number> {
  // The clock alone does not keep a process alive that has nothing else to do yet.
  const hold = setInterval(() => {}, patience);
  try {
    for (const begin = clock.monotonic(); ; await sleep(20, clock)) {
      const found = await bindable("udp4", port);
      const both = typeof found === "number" ? await bindable("udp6", found) : found;
      if (typeof both === "number") return both;
      if (clock.monotonic() - begin > patience) throw portTaken(host, port, both);
    }
  } finally {
    clearInterval(hold);
  }
}

/** What to say when the port is somebody else's. */
export function portTaken(host: string, port: number, cause: Error): IchorError {
  return new IchorError(
    "already_exists",
    `cannot listen for WireGuard on udp ${formatHostPort(host, port)}: ${cause.message}; choose another with --wireguard`,
    { cause },
  );
}

function bindable(type: "udp4" | "udp6", port: number): Promise<number | Error> {
  return new Promise((resolve) => {
    const socket = createSocket({ type, ipv6Only: type === "udp6" });
    socket.once("error", (error) => {
      socket.close();
      resolve(error);
    });
    socket.bind(port, () => {
      const bound = socket.address().port;
      socket.close(() => resolve(bound));
    });
  });
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
