import { messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import { run } from "./run.ts";

/** Place of our routing rule: behind that of local addresses, before all that an operator has. */
const preference = "9303";

/**
 * Keeps machines to the plane. A routing rule refuses whatever came in by the interface and is for somebody else: other machines, other
 * networks; without regard to whether the host forwards. A table of nftables, where there is nft, lets machines reach only the ports that the
 * plane listens on, and not whatever else the host offers on all its addresses.
 */
export class Fence {
  readonly #name: string;
  readonly #log: Logger;
  #filters = false;

  private constructor(name: string, log: Logger) {
    this.#name = name;
    this.#log = log;
  }

  /** Raises it before the interface is up. What an earlier one left is replaced. */
  static async raise(name: string, address: string, log: Logger): Promise<Fence> {
    const fence = new Fence(name, log);
    await fence.#removeRule();
    await run("ip", ["-6", "rule", "add", "iif", name, "pref", preference, "prohibit"]);
    try {
      await run("nft", ["-f", "-"], table(name, address));
      fence.#filters = true;
    } catch (error) {
      log.warn(
        { interface: name, error: messageOf(error) },
        "machines can reach whatever this host offers on all its addresses: install nftables, or let a firewall keep them to the plane's ports",
      );
    }
    return fence;
  }

  /** Machines may reach that port of the plane. */
  async open(port: number): Promise<void> {
    if (this.#filters) await run("nft", ["add", "element", "inet", this.#name, "ports", `{ ${port} }`]);
  }

  async shut(port: number): Promise<void> {
    if (!this.#filters) return;
    try {
      await run("nft", ["delete", "element", "inet", this.#name, "ports", `{ ${port} }`]);
    } catch (error) {
      this.#log.warn({ port, error: messageOf(error) }, "port stays open to machines");
    }
  }

  async remove(): Promise<void> {
    await this.#removeRule();
    if (this.#filters) await run("nft", ["delete", "table", "inet", this.#name]).catch(() => {});
  }

  async #removeRule(): Promise<void> {
    try {
      for (;;) await run("ip", ["-6", "rule", "delete", "iif", this.#name, "pref", preference]);
    } catch {
      // There is none any more.
    }
  }
}

function table(name: string, address: string): string {
  return `table inet ${name} { }
delete table inet ${name}
table inet ${name} {
  set ports { type inet_service; }
  chain input {
    type filter hook input priority filter - 10; policy accept;
    iifname != "${name}" accept
    ip6 daddr != ${address} drop
    ct state established accept
    tcp dport @ports accept
    meta l4proto ipv6-icmp accept
    meta l4proto tcp reject with tcp reset
    drop
  }
}
`;
}
