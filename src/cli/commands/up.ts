import { flushCompileCache } from "node:module";
import { Command } from "commander";
import { runDemo } from "#cli/demo.ts";
import { report } from "#cli/exit.ts";
import { print, say } from "#cli/output.ts";
import { defaultData, openPlane } from "#cli/plane.ts";
import { IchorError } from "#lib/errors.ts";
import type { PlaneOptions } from "#server/config.ts";
import { startPlane } from "#server/serve.ts";

/** `ichor up` */
export const up: Command = new Command("up")
  .description("start the plane; goes on where it was when it ran before")
  .option("--data <dir>", "where all state lives", defaultData)
  .option("--listen <host:port>", "console, API and proxies (default 0.0.0.0:8443)")
  .option("--advertise <url>", "how others reach --listen (default: this machine's first address)")
  .option("--machine-api <host:port>", "where machines join, gRPC (default 0.0.0.0:8090)")
  .option("--wireguard <host:port>", "WireGuard, UDP (default 0.0.0.0:50180)")
  .option("--link <engine>", "user (in this process, no privilege) or kernel (default user)")
  .option("--image-factory <url>", "where installer images come from (default https://factory.talos.dev)")
  .option("--kubernetes-registry <repository>", "where Kubernetes images come from (default registry.k8s.io)")
  .option("--demo", "add an emulated site: 3 control planes, 2 workers, the cluster demo")
  .action(async ({ demo, ...options }: PlaneOptions & { demo?: boolean }) => {
    const stop = new AbortController();
    const abort = () => stop.abort(new IchorError("aborted", "interrupted"));
    process.once("SIGINT", abort).once("SIGTERM", abort);
    try {
      const plane = await startPlane(options, {
        level: process.env.ICHOR_LOG ?? (process.stderr.isTTY || demo ? "error" : "info"),
        write: (line) => void process.stderr.write(line),
      });
      const client = openPlane(plane.data);
      try {
        const node = demo ? await runDemo({ client, data: plane.data, signal: stop.signal }) : undefined;
        const { url } = await client.session.createSignInLink({});
        print(`Console        ${plane.url}`);
        print(`Sign-in link   ${url}`);
        if (node) for (const line of hints(plane.data, node)) print(line);
        else print(`Next           boot a Talos machine with what "ichor join${other(plane.data)}" prints`);
        // A plane that is killed would leave nothing for its next start.
        flushCompileCache();
        say("Press Ctrl-C to stop; everything goes on at the next start.");
        await new Promise<void>((resolve) => {
          if (stop.signal.aborted) resolve();
          else stop.signal.addEventListener("abort", () => resolve(), { once: true });
        });
      } finally {
        client.close();
        await plane.close();
      }
      process.exitCode ??= 0;
    } catch (error) {
      process.exitCode = stop.signal.aborted ? 130 : report(error);
    } finally {
      process.removeListener("SIGINT", abort).removeListener("SIGTERM", abort);
    }
  });

/** What to try once the demo runs; all of it works as it stands. */
function hints(data: string, node: string): string[] {
  const at = other(data);
  return [
    `Try            ./ichor kubeconfig --cluster demo --stdout${at} > demo.kubeconfig`,
    "               kubectl --kubeconfig demo.kubeconfig get nodes",
    `               ./ichor talosconfig --cluster demo --stdout${at} > demo.talosconfig`,
    `               talosctl --talosconfig demo.talosconfig -n ${node} version`,
    `               ./ichor cluster status demo${at}`,
  ];
}

function other(data: string): string {
  return data === defaultData ? "" : ` --data ${data}`;
}
