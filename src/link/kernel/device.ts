import { accessSync, constants } from "node:fs";
import type { Clock } from "#lib/clock.ts";
import { IchorError, messageOf } from "#lib/errors.ts";
import { type Dump, parseDump } from "./dump.ts";
import { freePort, portTaken } from "./needs.ts";
import { ProgramError, run } from "./run.ts";
import { reach, UserspaceWireGuard } from "./userspace.ts";

/** How an interface is made. */
export interface DeviceOptions {
  readonly name: string;
  readonly address: string;
  readonly privateKey: Uint8Array;
  /** In base64: the interface is marked with it, so that we know it again. */
  readonly publicKey: string;
  readonly bind: { readonly host: string; readonly port: number };
  readonly clock: Clock;
}

/** The WireGuard interface, of the kernel's module or of wireguard-go; `wg` speaks to both. */
export class Device {
  readonly port: number;
  readonly carrier: "kernel" | "wireguard-go";
  readonly #name: string;
  readonly #go: UserspaceWireGuard | undefined;

  /** Makes and configures it, after `claim`. */
  static async open(options: DeviceOptions): Promise<Device> {
    const { name, privateKey, clock } = options;
    const mark = await claim(name, options.publicKey);
    const port = await freePort(options.bind, clock);
    const go = (await addLink(name, mark)) ? undefined : await UserspaceWireGuard.start(name, clock);
    const device = new Device(name, port, go);
    try {
      // A pipe of the shell: what Node gives as standard input is a socket, which cannot be opened by a path.
      const key = Buffer.from(privateKey).toString("base64");
      await run("sh", ["-c", 'cat | wg set "$1" private-key /dev/stdin', "ichor", name], `${key}\n`);
      await run("wg", ["set", name, "listen-port", String(port)]);
      await batch(
        `link set dev ${name} alias "${mark}"`,
        `link set dev ${name} mtu 1280 addrgenmode none`,
        `address add ${options.address}/64 dev ${name} nodad`,
        `link set dev ${name} up`,
      );
      return device;
    } catch (error) {
      await device.close();
      if (error instanceof ProgramError && /in use/i.test(error.said))
        throw portTaken(options.bind.host, port, new Error("address already in use", { cause: error }));
      throw error;
    }
  }

  private constructor(name: string, port: number, go: UserspaceWireGuard | undefined) {
    this.#name = name;
    this.port = port;
    this.#go = go;
    this.carrier = go ? "wireguard-go" : "kernel";
  }

  /** `wg set NAME …` */
  async set(...args: string[]): Promise<void> {
    await run("wg", ["set", this.#name, ...args]);
  }

  async look(): Promise<Dump> {
    return parseDump(await run("wg", ["show", this.#name, "dump"]));
  }

  /** Whether it is there. */
  async exists(): Promise<boolean> {
    return (await find(this.#name)) !== undefined;
  }

  /** Takes it away. */
  async close(): Promise<void> {
    if (this.#go) await this.#go.stop();
    else await removeLink(this.#name);
  }
}

/** Adds an interface of the kernel's module; false where the kernel has none. Marks it by the same program: a killed plane leaves no unmarked one. */
async function addLink(name: string, mark: string): Promise<boolean> {
  try {
    await batch(`link add dev ${name} type wireguard`, `link set dev ${name} alias "${mark}"`);
    return true;
  } catch (error) {
    if (!(error instanceof ProgramError) || !/unknown device type|not supported/i.test(error.said)) throw error;
  }
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
  } catch {
    throw new IchorError(
      "failed_precondition",
      "--link kernel: this kernel has no WireGuard and there is no /dev/net/tun for wireguard-go: load the module (modprobe wireguard) or tun (modprobe tun; in a container: --device /dev/net/tun), or use --link user",
    );
  }
  try {
    await run("wireguard-go", ["--version"]);
  } catch {
    throw new IchorError(
      "failed_precondition",
      "--link kernel: this kernel has no WireGuard and the program wireguard-go is missing: load the module (modprobe wireguard), install wireguard-go, or use --link user",
    );
  }
  return false;
}

/**
 * Makes sure that the name is nobody's, and answers the mark of ours. What an earlier run of this plane left behind is taken away; anybody
 * else's is not touched: throws `already_exists`.
 */
export async function claim(name: string, publicKey: string): Promise<string> {
  const mark = `Ichor plane ${publicKey}`;
  await run("wg", ["--version"]);
  const left = await find(name);
  if (left && left.ifalias !== mark)
    throw new IchorError(
      "already_exists",
      left.ifalias?.startsWith("Ichor plane ")
        ? `--link kernel: the interface ${name} is that of another plane on this host: one of them needs --link user, or a network namespace of its own`
        : `--link kernel: there is an interface ${name} that is not ours: rename it, or take it away (ip link delete ${name})`,
    );
  const carrier = await reach(name);
  if (carrier && left) {
    // It ends with its interface, and its port is free then.
    const ended = new Promise((resolve) => carrier.once("close", resolve));
    carrier.resume();
    await removeLink(name);
    await ended;
  } else if (carrier) {
    carrier.destroy();
    throw new IchorError(
      "already_exists",
      `--link kernel: a wireguard-go in another network namespace has the name ${name}: end it, or give one of both its own /var/run/wireguard`,
    );
  } else if (left) await removeLink(name);
  return mark;
}

interface Link {
  readonly ifname?: string;
  readonly ifalias?: string;
}

async function find(name: string): Promise<Link | undefined> {
  const links = JSON.parse(await run("ip", ["-json", "link", "show"])) as Link[];
  return links.find(({ ifname }) => ifname === name);
}

async function removeLink(name: string): Promise<void> {
  try {
    await run("ip", ["link", "delete", "dev", name]);
  } catch (error) {
    if (!/cannot find device/i.test(messageOf(error))) throw error;
  }
}

/** Several commands of `ip` by one program, up to the first that fails. */
async function batch(...commands: string[]): Promise<void> {
  await run("ip", ["-batch", "-"], `${commands.join("\n")}\n`);
}
