import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { Boot } from "#emulator/boot.ts";
import type { Cluster } from "#emulator/cluster.ts";
import { resourcesOf } from "./catalog.ts";
import { type Program, runProgram } from "./container.ts";
import { podOf } from "./pods.ts";
import { parseTarget, urlOf } from "./request.ts";
import { KubeError, toKubeError } from "./status.ts";
import { authenticate, authorize } from "./user.ts";
import { acceptWebSocket } from "./websocket.ts";

const protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"] as const;
const channels = { stdin: 0, stdout: 1, stderr: 2, error: 3, close: 255 } as const;

/** Upgraded requests: `kubectl exec` and `attach` over WebSocket. SPDY is refused, kubectl falls back from nothing newer. */
export function upgradePod(
  boot: Boot,
  cluster: Cluster,
  request: IncomingMessage,
  socket: TLSSocket,
  head: Buffer,
): void {
  try {
    const url = urlOf(request.url);
    const user = authenticate(boot, socket, request.headers, cluster.objects);
    const target = parseTarget(url.pathname, resourcesOf(cluster.objects));
    if (target?.resource.plural !== "pods" || !["exec", "attach"].includes(target.subresource))
      throw new KubeError(404, "NotFound", "the server could not find the requested resource");
    const attributes = {
      verb: "create",
      group: "",
      resource: `pods/${target.subresource}`,
      namespace: target.namespace,
      name: target.name,
    };
    if (!authorize(user, attributes, cluster.objects))
      throw new KubeError(
        403,
        "Forbidden",
        `pods "${target.name}" is forbidden: User "${user.name}" cannot create resource "pods/${target.subresource}"`,
      );
    if (String(request.headers.upgrade).toLowerCase() !== "websocket")
      throw new KubeError(400, "BadRequest", "only WebSocket is emulated");
    const { pod } = podOf(cluster.objects, target, url.searchParams);
    const command = target.subresource === "exec" ? url.searchParams.getAll("command") : ["cat"];
    let program: Program | undefined;
    const early: Buffer[] = [];
    const receive = (message: Buffer) => {
      if (!program) early.push(message);
      else if (message[0] === channels.stdin) program.stdin(message.subarray(1).toString("utf8"));
      else if (message[0] === channels.close && message[1] === channels.stdin) program.end();
    };
    const accepted = acceptWebSocket(request, socket, head, protocols, receive, () => program?.end());
    if (!accepted) return;
    const { end } = accepted;
    boot.signal.addEventListener("abort", () => end.close(1001), { once: true });
    const send = (channel: number, text: string) =>
      end.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]));
    let done = false;
    const terminal = {
      stdout: (text: string) => send(channels.stdout, text),
      stderr: (text: string) => send(channels.stderr, text),
      exit(code: number) {
        if (done) return;
        done = true;
        send(channels.error, JSON.stringify(exitStatus(code)));
        end.close();
      },
    };
    program = runProgram(pod, command, terminal);
    for (const message of early) receive(message);
  } catch (error) {
    const failure = toKubeError(error);
    const body = JSON.stringify(failure.body());
    socket.end(
      `HTTP/1.1 ${failure.status} ${failure.reason}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    );
  }
}

function exitStatus(code: number): object {
  if (code === 0) return { metadata: {}, status: "Success" };
  return {
    metadata: {},
    status: "Failure",
    reason: "NonZeroExitCode",
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
  };
}
