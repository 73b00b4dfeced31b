import { create, type Message } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  type Interceptor,
  type StreamResponse,
  type UnaryResponse,
} from "@connectrpc/connect";
import type { Boot } from "#emulator/boot.ts";
import { MetadataSchema } from "#gen/common/common_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { canonicalIP } from "#lib/ip.ts";
import { type Call, callKey, toConnectError } from "./call.ts";
import { effectiveRoles, isServed, mayCall } from "./roles.ts";

/** Admits calls by role, sends them to other nodes of the cluster (protocols.md 5.10), and turns our errors into statuses. */
export const guard: Interceptor = (next) => async (request) => {
  const call = request.contextValues.get(callKey);
  if (!call) throw new ConnectError("no machine", Code.Internal);
  const { boot } = call;
  const method = `${request.service.typeName}/${request.method.name}`;
  const { minor } = boot.chassis.release;
  if (!isServed(method, minor, boot.maintenance))
    throw new ConnectError(`unknown method ${request.method.name}`, Code.Unimplemented);
  const roles = effectiveRoles(call.roles, request.header.get("talos-role"));
  if (!mayCall(method, roles, boot.maintenance)) {
    const code = boot.maintenance && minor < 13 ? Code.Unimplemented : Code.PermissionDenied;
    throw new ConnectError(
      code === Code.Unimplemented ? "API is not implemented in maintenance mode" : "not authorized",
      code,
    );
  }
  const forBoot = async (target: Boot) => {
    if (target.signal.aborted) throw new ConnectError("connection error: machine is down", Code.Unavailable);
    try {
      return await next({
        ...request,
        contextValues: createContextValues().set(callKey, { ...call, roles, boot: target }),
      } as typeof request);
    } catch (error) {
      throw toConnectError(error);
    }
  };
  const { node, nodes } = routing(request.header, boot);
  if (node === undefined && nodes.length === 0) return forBoot(boot);
  if (boot.maintenance)
    throw new ConnectError("API forwarding is not available in maintenance mode", Code.Unimplemented);
  if (node !== undefined) return forBoot(find(call, node));
  if (!/^(machine\.MachineService|cluster\.|inspect\.|storage\.StorageService|time\.)/.test(method))
    throw new ConnectError("one-2-many proxying is not supported for this method", Code.InvalidArgument);
  const answers = nodes.map(async (name) => forBoot(find(call, name)));
  if (request.stream) return mergeStreams(nodes, answers as Promise<StreamResponse>[]);
  return mergeUnary(nodes, answers as Promise<UnaryResponse>[]);
};

function routing(header: Headers, boot: Boot): { node: string | undefined; nodes: string[] } {
  if (header.has("proxyfrom")) return { node: undefined, nodes: [] };
  const split = (name: string) =>
    (header.get(name) ?? "")
      .split(",")
      .map((value) => value.trim())
      .filter((value) => value !== "");
  const nodes = split("nodes");
  const [node] = split("node");
  if (node !== undefined && nodes.length === 0 && answersTo(boot, node)) return { node: undefined, nodes: [] };
  return { node: nodes.length > 0 ? undefined : node, nodes };
}

function answersTo(boot: Boot, name: string): boolean {
  const wanted = canonical(name);
  return wanted === boot.hostname || boot.addresses().some((address) => canonical(address) === wanted);
}

function canonical(name: string): string {
  try {
    return canonicalIP(name.replace(/^\[|\]$/g, ""));
  } catch {
    return name;
  }
}

/** The machine that a name or address means: itself, or a peer if this one holds the key to sign for it. */
function find(call: Call, name: string): Boot {
  const { boot } = call;
  if (answersTo(boot, name)) return boot;
  if (!boot.config?.controlPlane)
    throw new ConnectError("proxying to other nodes is not allowed on workers", Code.PermissionDenied);
  const peer = boot.cluster?.peers.find((candidate) => candidate.uuid !== boot.uuid && answersTo(candidate, name));
  if (!peer)
    throw new ConnectError(
      `connection error: desc = "transport: Error while dialing: dial tcp ${name}:50000: i/o timeout"`,
      Code.Unavailable,
    );
  return peer;
}

type Reply = Message & { messages: (Message & { metadata?: unknown })[] };

async function mergeUnary(
  nodes: readonly string[],
  answers: readonly Promise<UnaryResponse>[],
): Promise<UnaryResponse> {
  const settled = await Promise.allSettled(answers);
  const first = settled.find((result) => result.status === "fulfilled");
  if (!first) throw (settled[0] as PromiseRejectedResult).reason;
  const messages = settled.flatMap((result, at) => {
    const hostname = nodes[at] ?? "";
    if (result.status === "fulfilled") {
      return (result.value.message as Reply).messages.map((item) => ({
        ...item,
        metadata: create(MetadataSchema, { hostname }),
      }));
    }
    const error = ConnectError.from(result.reason);
    const status = create(StatusSchema, { code: error.code, message: error.rawMessage });
    const text = `rpc error: code = ${Code[error.code]} desc = ${error.rawMessage}`;
    const [template] = (first.value.message as Reply).messages;
    return [{ $typeName: template?.$typeName, metadata: create(MetadataSchema, { hostname, error: text, status }) }];
  });
  return { ...first.value, message: { ...first.value.message, messages } as unknown as Message } as UnaryResponse;
}

async function mergeStreams(
  nodes: readonly string[],
  answers: readonly Promise<StreamResponse>[],
): Promise<StreamResponse> {
  const settled = await Promise.allSettled(answers);
  const first = settled.find((result) => result.status === "fulfilled");
  if (!first) throw (settled[0] as PromiseRejectedResult).reason;
  async function* label(stream: AsyncIterable<Message>, hostname: string) {
    for await (const item of stream)
      yield { ...item, metadata: create(MetadataSchema, { hostname }) } as unknown as Message;
  }
  const streams = settled.flatMap((result, at) =>
    result.status === "fulfilled" ? [label(result.value.message, nodes[at] ?? "")] : [],
  );
  return { ...first.value, message: interleave(streams) } as StreamResponse;
}

/** Items of all, in the order in which they come. */
async function* interleave<T>(streams: readonly AsyncGenerator<T>[]): AsyncGenerator<T> {
  const waiting = new Map(streams.map((stream) => [stream, stream.next().then((result) => ({ stream, result }))]));
  try {
    while (waiting.size > 0) {
      const { stream, result } = await Promise.race(waiting.values());
      if (result.done) waiting.delete(stream);
      else {
        waiting.set(
          stream,
          stream.next().then((next) => ({ stream, result: next })),
        );
        yield result.value;
      }
    }
  } finally {
    for (const stream of waiting.keys()) stream.return(undefined).catch(() => {});
  }
}
