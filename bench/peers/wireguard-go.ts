import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generatePrivateKey, publicKeyOf } from "#wireguard/device.ts";
import { Namespace } from "../../test/interop/netns.ts";
import { until } from "../../test/interop/until.ts";

const program = fileURLToPath(new URL("./pour.ts", import.meta.url));
const port = 5201;
const base64 = (key: Uint8Array) => Buffer.from(key).toString("base64");

/**
 * Mbit/s of one TCP stream of the kernel through two `wireguard-go` on TUN devices, in two network namespaces with a wire between them; or
 * why that cannot be had here.
 */
export async function wireguardGoRate(warmUp: number, measured: number): Promise<number | { skip: string }> {
  if (spawnSync("sh", ["-c", "command -v wireguard-go && command -v wg"]).status !== 0)
    return { skip: "wireguard-go and wg are not installed" };
  const near = Namespace.create();
  if ("skip" in near) return near;
  const far = Namespace.create();
  if ("skip" in far) {
    await near.close();
    return far;
  }
  const directory = mkdtempSync(join(tmpdir(), "ichor-bench-"));
  try {
    near.ip("link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", far.name);
    const ends = [
      { space: near, key: generatePrivateKey(), wire: "198.51.100.1", inside: "fd00::1", device: `wn${process.pid}` },
      { space: far, key: generatePrivateKey(), wire: "198.51.100.2", inside: "fd00::2", device: `wf${process.pid}` },
    ] as const;
    for (const [index, { space, key, wire, inside, device }] of ends.entries()) {
      const other = ends[1 - index]!;
      space.ip("address", "add", `${wire}/30`, "dev", "wire");
      space.ip("link", "set", "wire", "up");
      space.start("wireguard-go", ["-f", device]);
      const config = join(directory, device);
      writeFileSync(
        config,
        `[Interface]\nPrivateKey=${base64(key)}\nListenPort=51820\n[Peer]\nPublicKey=${base64(publicKeyOf(other.key))}\nEndpoint=${other.wire}:51820\nAllowedIPs=${other.inside}/128\n`,
        { mode: 0o600 },
      );
      await until(() => spawnSync("ip", ["netns", "exec", space.name, "wg", "setconf", device, config]).status === 0);
      space.ip("address", "add", `${inside}/64`, "dev", device, "nodad");
      space.ip("link", "set", device, "mtu", "1280", "up");
    }
    const node = (space: Namespace, ...args: (string | number)[]) =>
      space.start(process.execPath, ["--disable-warning=ExperimentalWarning", program, ...args.map(String)]);
    await node(far, "pour", "fd00::2", port).line((line) => line === "pouring");
    const rate = await node(near, "drink", "fd00::2", port, warmUp, measured).line((line) => line.startsWith("rate "));
    return Number(rate.slice(5));
  } finally {
    rmSync(directory, { recursive: true });
    await near.close();
    await far.close();
  }
}
