import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { parse, stringify } from "yaml";
import { type Invocation, verb } from "#cli/command.ts";
import { print, printJson, say } from "#cli/output.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { IchorError } from "#lib/errors.ts";

interface Destination {
  stdout?: boolean;
  output?: string;
}

/** `ichor kubeconfig` */
export const kubeconfig: Command = verb<Destination & { cluster: string }>(
  "kubeconfig",
  "kubectl's access to a cluster through the plane; holds no cluster secret",
  async ({ plane }, options) => {
    if (!(await plane.state.get(ClusterKind, options.cluster))) {
      throw new IchorError("not_found", `there is no cluster "${options.cluster}"; see: ichor cluster list`);
    }
    const { kubeconfig: bytes } = await plane.management.kubeconfig(
      { serviceAccount: true, serviceAccountUser: "admin" },
      { headers: { context: options.cluster } },
    );
    deliver(
      Buffer.from(bytes).toString(),
      options,
      process.env.KUBECONFIG?.split(":")[0] || join(homedir(), ".kube/config"),
      mergeKubeconfig,
    );
  },
)
  .requiredOption("-c, --cluster <name>", "the cluster")
  .option("--stdout", "write it to standard output")
  .option("-o, --output <file>", "write it to a file of its own; default: merge into kubectl's own");

/** `ichor talosconfig` */
export const talosconfig: Command = verb<Destination & { cluster?: string }>(
  "talosconfig",
  "talosctl's access to machines through the plane; holds no cluster secret",
  async ({ plane }, options) => {
    const headers = options.cluster ? { headers: { context: options.cluster } } : {};
    const { talosconfig: bytes } = await plane.management.talosconfig({}, headers);
    deliver(
      Buffer.from(bytes).toString(),
      options,
      process.env.TALOSCONFIG || join(homedir(), ".talos/config"),
      mergeTalosconfig,
    );
  },
)
  .option("-c, --cluster <name>", "only the machines of this cluster")
  .option("--stdout", "write it to standard output")
  .option("-o, --output <file>", "write it to a file of its own; default: merge into talosctl's own");

function deliver(
  text: string,
  options: Destination,
  usual: string,
  merge: (old: unknown, added: unknown) => unknown,
): void {
  if (options.stdout) {
    print(text.trimEnd());
    return;
  }
  const file = options.output ?? usual;
  const merged =
    !options.output && existsSync(file) ? stringify(merge(parse(readFileSync(file, "utf8")), parse(text))) : text;
  mkdirSync(dirname(file), { recursive: true });
  // Whole or not at all: an interrupted write must not cost other clusters' access.
  writeFileSync(`${file}.ichor`, merged, { mode: 0o600 });
  renameSync(`${file}.ichor`, file);
  say(`Wrote ${file}.`);
}

type Named = { name: string };

function mergeKubeconfig(old: unknown, added: unknown): unknown {
  const [a, b] = [old as Record<string, unknown>, added as Record<string, unknown>];
  const merged: Record<string, unknown> = { ...a, "current-context": b["current-context"] };
  for (const list of ["clusters", "contexts", "users"]) {
    const fresh = (b[list] ?? []) as Named[];
    merged[list] = [
      ...((a[list] ?? []) as Named[]).filter(({ name }) => !fresh.some((item) => item.name === name)),
      ...fresh,
    ];
  }
  return merged;
}

function mergeTalosconfig(old: unknown, added: unknown): unknown {
  const [a, b] = [old as { contexts?: object }, added as { context: string; contexts: object }];
  return { ...a, context: b.context, contexts: { ...a.contexts, ...b.contexts } };
}

/** `ichor join` */
export const joinCommand: Command = verb<{ kernelArgs?: boolean; config?: boolean; tunnel?: boolean; token?: string }>(
  "join",
  "what to boot a machine with so that it joins",
  async ({ plane, json }, options) => {
    const reply = await plane.management.getMachineJoinConfig({
      useGrpcTunnel: options.tunnel ?? false,
      joinToken: options.token ?? "",
    });
    if (json) printJson({ kernelArgs: reply.kernelArgs, config: reply.config });
    else if (options.kernelArgs) print(reply.kernelArgs.join(" "));
    else if (options.config) print(reply.config.trimEnd());
    else {
      say("Boot a Talos machine with these kernel arguments (or --config for the same as a configuration document):");
      print(reply.kernelArgs.join(" "));
    }
  },
)
  .option("--kernel-args", "only the kernel arguments")
  .option("--config", "the same as configuration documents")
  .option("--tunnel", "carry WireGuard over gRPC, where UDP is blocked")
  .option("--token <token>", "another join token than the default");

/** `ichor signin` */
export const signin: Command = verb<{ open?: boolean }>(
  "signin",
  "a link that signs a browser in, once",
  async ({ plane, json }: Invocation, options) => {
    const { url } = await plane.session.createSignInLink({});
    if (json) printJson({ url });
    else print(url);
    if (options.open) spawnSync("xdg-open", [url], { stdio: "ignore" });
  },
).option("--open", "open it in the browser");
