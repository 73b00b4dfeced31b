import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { pipeline } from "node:stream";
import { stringify } from "yaml";
import type { Machine } from "#emulator/machine.ts";
import { systemClock } from "#lib/clock.ts";
import { listTalos } from "#talos/cosi.ts";
import { printConfig } from "#talos/document.ts";
import { generateConfig } from "#talos/generate.ts";
import { issueKubernetesAdmin } from "#talos/pki.ts";
import { talosKinds } from "#talos/resources.ts";
import { base64 } from "#talos/secrets.ts";
import { clusterEndpoint, type TestPlane } from "./plane.ts";

/** A machine configuration of the plane's one cluster. */
export function configOf(
  plane: TestPlane,
  machineType: "controlplane" | "worker",
  { disk = "/dev/nvme0n1", schedulable = false } = {},
): Buffer {
  return Buffer.from(
    printConfig(
      generateConfig({
        contract: "1.13",
        clusterName: "test",
        endpoint: clusterEndpoint,
        secrets: plane.secrets,
        machineType,
        kubernetesVersion: "1.36.1",
        installDisk: disk,
        installImage: "ghcr.io/siderolabs/installer:v1.13.9",
        schedulable,
      }),
    ),
  );
}

/** Whether a machine runs and nothing keeps it from being ready. */
export function isReady(machine: Machine): boolean {
  return machine.stage === "running" && machine.boot?.unmet.size === 0;
}

/** Where machines stand, with their last words: what to print when a wait ends. */
export function standing(machines: readonly Machine[]): string {
  return machines
    .map(({ stage, boot }) => {
      const words = boot?.kernel.from(boot.kernel.end - 12).map(({ message }) => message);
      return `\n${stage} ${JSON.stringify([...(boot?.unmet ?? [])])}\n  ${words?.join("\n  ")}`;
    })
    .join("");
}

/** Configures a machine that is in maintenance, which installs and reboots it; resolves when it has joined again. */
export async function configure(
  plane: TestPlane,
  machine: Machine,
  machineType: "controlplane" | "worker",
  options: { schedulable?: boolean } = {},
): Promise<void> {
  const address = await plane.joined(machine.uuid);
  const client = plane.client(machine.uuid, { mode: "maintenance" });
  const disks = await listTalos(client, talosKinds.disk);
  const disk = disks.find(({ spec }) => spec.size > 5_000_000_000n && !spec.readonly)?.spec.devPath;
  if (!disk) throw new Error("the machine has no disk to install to");
  const before = plane.provisions.length;
  if (machineType === "controlplane") plane.controlPlanes.push(address);
  await client.machine.applyConfiguration({ data: configOf(plane, machineType, { disk, ...options }), mode: 1 });
  await plane.joined(machine.uuid, before);
}

/** Makes a cluster of machines in maintenance: the first `controlPlanes` of them lead. Resolves when all are ready. */
export async function raise(
  plane: TestPlane,
  machines: readonly Machine[],
  { controlPlanes = 1, schedulable = false } = {},
): Promise<void> {
  await Promise.all(
    machines.map((machine, at) =>
      configure(plane, machine, at < controlPlanes ? "controlplane" : "worker", { schedulable }),
    ),
  );
  const [first] = machines;
  if (!first) return;
  await plane.changed.until("etcd to wait for its bootstrap", () => first.boot?.services.get("etcd") !== undefined);
  await plane.changed.until("apid with mTLS", () => first.boot?.apidTls?.clientCAs !== undefined);
  await plane.client(first.uuid, await plane.credentials("os:admin")).machine.bootstrap({});
  await plane.changed.until(
    "all machines to be ready",
    () => machines.every(isReady),
    () => standing(machines),
  );
}

/** A port on loopback that leads to a machine's port inside the link. */
export async function forward(
  plane: TestPlane,
  machine: Machine,
  port: number,
): Promise<{ port: number; close(): void }> {
  const server = createServer((down) => {
    down.on("error", () => {});
    plane.dial(plane.addressOf(machine.uuid), port).then(
      (up) => {
        pipeline(down, up, () => {});
        pipeline(up, down, () => {});
      },
      () => down.destroy(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, close: () => void server.close() };
}

/** A kubeconfig for the administrator that speaks to the API server at a loopback port. */
export async function adminKubeconfig(plane: TestPlane, port: number): Promise<string> {
  const { crt, key } = await issueKubernetesAdmin(plane.secrets.kubernetes, 3_600_000, systemClock);
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "test",
        cluster: {
          server: `https://127.0.0.1:${port}`,
          "certificate-authority-data": base64(plane.secrets.kubernetes.crt),
        },
      },
    ],
    users: [{ name: "admin", user: { "client-certificate-data": base64(crt), "client-key-data": base64(key) } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    "current-context": "test",
  });
}
