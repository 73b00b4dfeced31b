import { constants, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { Clock } from "#lib/clock.ts";
import { codeOf, IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { State } from "#store/state.ts";
import type { Dial } from "#talos/dial.ts";
import { endCall, openWithin, relay, timeoutOf, upstreamHeaders } from "./grpc-call.ts";
import { statusOf } from "./grpc-status.ts";
import type { IndexedMachine, MachineIndex } from "./machine-index.ts";
import { callMany, mostNodes, type Target } from "./talos-many.ts";
import { allowsMany, isStreaming, rolesFor } from "./talos-methods.ts";
import { TalosSessions } from "./talos-sessions.ts";

/** Who calls, as the edge found out. */
export interface TalosCaller {
  /** For the log. */
  readonly identity: string;
  /**
   * Roles of the plane (`Operator`) or of Talos (`os:operator`); a function where they differ by cluster, undefined being machines
   * without one.
   */
  readonly roles: readonly string[] | ((cluster: string | undefined) => readonly string[] | Promise<readonly string[]>);
  /** The cluster meant when the call names none. */
  readonly cluster?: string;
}

/** What the proxy is made with. */
export interface TalosProxyOptions {
  readonly state: State;
  readonly dial: Dial;
  readonly clock: Clock;
  readonly log: Logger;
  readonly machines: MachineIndex;
}

/** Calls under way, streams included. */
const mostCalls = 5000;

/** Passes talosctl on to machines. */
export interface TalosProxy {
  /** Takes a gRPC call that is for machines; resolves when it is over. Never rejects: refusals are gRPC statuses. */
  handle(req: Http2ServerRequest, res: Http2ServerResponse, caller: TalosCaller): Promise<void>;
  /** Cuts everything. */
  close(): void;
}

/**
 * The Talos proxy (protocols.md 9.7, 5.10): finds the machines that a call names, and forwards it as raw frames with a certificate made
 * for the caller's role. `node` is one machine, `nodes` several, none any control plane of the cluster.
 */
export function createTalosProxy(options: TalosProxyOptions): TalosProxy {
  const { machines, clock, log } = options;
  const sessions = new TalosSessions(options);
  const turns = new Map<string, number>();
  let calls = 0;

  /** Control planes of the cluster in turn, those with a link before those without. */
  const anyControlPlane = (cluster: string): IndexedMachine => {
    const all = machines.controlPlanes(cluster);
    const connected = all.filter((machine) => machine.connected);
    const candidates = connected.length > 0 ? connected : all;
    const turn = (turns.get(cluster) ?? -1) + 1;
    turns.set(cluster, turn);
    const chosen = candidates[turn % candidates.length];
    if (chosen) return chosen;
    turns.delete(cluster);
    throw new IchorError("not_found", `cluster "${cluster}" does not exist, or none of its control planes runs yet`);
  };

  const run = async (req: Http2ServerRequest, res: Http2ServerResponse, caller: TalosCaller, signal: AbortSignal) => {
    const path = req.url;
    const method = path.slice(1);
    const cluster = first(req, "cluster") ?? first(req, "context") ?? caller.cluster;
    await machines.ready(signal);
    const rolesIn = async (machine: IndexedMachine) => {
      const { roles } = caller;
      const found = typeof roles === "function" ? await roles(machine.cluster || undefined) : roles;
      return rolesFor(method, found, machine);
    };
    const headers = upstreamHeaders(req.headers);
    const node = first(req, "node");
    const nodes = list(req, "nodes");

    if (node === undefined && nodes.length > 0) {
      if (!allowsMany(method))
        throw new IchorError(
          "invalid_argument",
          `${method} goes to one node at a time: name it as "node", not "nodes"`,
        );
      if (nodes.length > mostNodes)
        throw new IchorError("invalid_argument", `${nodes.length} nodes in one call; ${mostNodes} are the most`);
      // Replies are edited, so they must not be compressed.
      delete headers["grpc-accept-encoding"];
      const targets = nodes.map((name): Target => {
        return {
          name,
          open: async () => {
            const machine = machines.resolve(name, cluster);
            return sessions.open(machine, await rolesIn(machine), path, headers);
          },
        };
      });
      await callMany(req, res, targets, isStreaming(method), signal);
      return;
    }
    if (node === undefined && cluster === undefined)
      throw new IchorError("invalid_argument", "the call names neither a node nor a cluster: use --nodes or --cluster");
    const machine = node === undefined ? anyControlPlane(cluster ?? "") : machines.resolve(node, cluster);
    const roles = await rolesIn(machine);
    log.debug({ method, identity: caller.identity, machine: machine.id, roles }, "passing a call on to a machine");
    const upstream = await openWithin(sessions.open(machine, roles, path, headers), signal);
    const stop = () => upstream.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener("abort", stop, { once: true });
    try {
      await relay(req, res, upstream);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  };

  return {
    async handle(req, res, caller) {
      const over = new AbortController();
      res.once("close", () => over.abort(new IchorError("canceled", "the caller went away")));
      res.on("error", () => {});
      req.on("error", () => {});
      const timeout = timeoutOf(req.headers);
      const deadline =
        timeout === undefined
          ? undefined
          : clock.after(timeout, () => {
              over.abort(new IchorError("deadline_exceeded", "the deadline of the call passed"));
            });
      calls++;
      try {
        if (calls > mostCalls)
          throw new IchorError("resource_exhausted", `${mostCalls} calls to machines are under way`);
        await run(req, res, caller, over.signal);
        over.signal.throwIfAborted();
      } catch (thrown) {
        const error = over.signal.aborted ? over.signal.reason : thrown;
        if (codeOf(error) !== "canceled") {
          const facts = { method: req.url, identity: caller.identity, code: codeOf(error), error: messageOf(error) };
          log.info(facts, "a call to a machine failed");
        }
        endCall(res, statusOf(error));
      } finally {
        calls--;
        deadline?.cancel();
        req.resume();
      }
    },
    close: () => sessions.close(),
  };
}

/** Values of a metadata key, however they were sent. */
function list(req: Http2ServerRequest, name: string): string[] {
  const value = req.headers[name];
  return (Array.isArray(value) ? value : [value ?? ""])
    .flatMap((one) => one.split(","))
    .map((one) => one.trim())
    .filter((one) => one !== "");
}

function first(req: Http2ServerRequest, name: string): string | undefined {
  return list(req, name)[0];
}
