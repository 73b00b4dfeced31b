import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { ManagementService } from "#gen/management/management_pb.ts";
import { atLeast, type Caller } from "#guard/caller.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { State } from "#store/state.ts";
import { type JoinTarget, joinConfig, kernelArgs } from "#talos/kernelargs.ts";
import type { CertKey } from "#talos/pki.ts";
import { callerOf } from "./authentication.ts";
import { kubeconfigOf, talosconfigOf } from "./credentials.ts";
import type { KubernetesTokens } from "./kubernetes-token.ts";

/** Lines of a machine, as the link keeps them. */
export interface Logs {
  tail(uuid: string, count: number): Promise<string[]>;
  follow(uuid: string, tailLines: number, signal: AbortSignal): AsyncIterable<string>;
}

/** What the service works with. */
export interface ManagementOptions {
  readonly state: State;
  readonly clock: Clock;
  readonly logs: Logs;
  readonly ca: CertKey;
  /** The plane's public URL. */
  readonly url: () => URL;
  readonly tokens: KubernetesTokens;
  readonly makeJoinToken: () => string;
  readonly joinTarget: (joinToken: string, tunnel: boolean) => JoinTarget;
}

/** Methods that are built; all others answer `unimplemented`, and are listed in docs/status.md. */
export function managementService(options: ManagementOptions): Partial<ServiceImpl<typeof ManagementService>> {
  const { state, clock, logs, tokens } = options;
  const url = () => options.url().href.replace(/\/$/, "");

  return {
    async kubeconfig(request, { values, requestHeader }) {
      const caller = callerOf(values);
      if (request.breakGlass) throw new IchorError("unimplemented", "break-glass kubeconfigs are not built yet");
      const cluster = await clusterOf(state, requestHeader.get("context") ?? "");
      if (!cluster) throw new IchorError("invalid_argument", 'name the cluster in the metadata "context"');
      const ttl = request.serviceAccountTtl;
      const claims = { identity: caller.identity, cluster, groups: groupsOf(caller, request) };
      const token = await tokens.sign(claims, ttl && Number(ttl.seconds) * 1000);
      const text = kubeconfigOf({ url: url(), ca: options.ca.crt, cluster, user: caller.identity, token });
      return { kubeconfig: Buffer.from(text) };
    },

    async talosconfig(request, { values, requestHeader }) {
      const caller = callerOf(values);
      if (request.raw || request.breakGlass)
        throw new IchorError("unimplemented", "talosconfigs with the cluster's own secrets are not built yet");
      const cluster = await clusterOf(state, requestHeader.get("context") ?? "");
      const { hostname, port } = options.url();
      const text = await talosconfigOf({ host: `${hostname}:${port || 443}`, ca: options.ca, cluster }, caller, clock);
      return { talosconfig: Buffer.from(text) };
    },

    async *machineLogs({ machineId, follow, tailLines }, { signal }) {
      if (!(await state.get(MachineKind, machineId)))
        throw new IchorError("not_found", `there is no machine "${machineId}"`);
      const lines = follow ? logs.follow(machineId, tailLines, signal) : await logs.tail(machineId, tailLines);
      for await (const line of lines) yield { bytes: Buffer.from(`${line}\n`) };
    },

    async getMachineJoinConfig({ useGrpcTunnel, joinToken }) {
      const token = joinToken || (await state.get(DefaultJoinTokenKind, "default"))?.spec.tokenId;
      const known = token ? await state.get(JoinTokenKind, token) : undefined;
      if (!token || !known) throw new IchorError("not_found", "there is no such join token");
      const { expirationTime, revoked } = known.spec;
      if (revoked) throw new IchorError("failed_precondition", "the join token is revoked: name another");
      if (expirationTime && timestampDate(expirationTime).getTime() <= clock.now())
        throw new IchorError("failed_precondition", "the join token has expired: name another");
      const target = options.joinTarget(token, useGrpcTunnel);
      return { kernelArgs: kernelArgs(target), config: joinConfig(target) };
    },

    async createJoinToken({ name, expirationTime }) {
      if (name.trim() === "" || name.length > 128)
        throw new IchorError("invalid_argument", "a join token needs a name of 1 to 128 characters");
      if (expirationTime && timestampDate(expirationTime).getTime() <= clock.now())
        throw new IchorError("invalid_argument", "the join token would have expired already");
      const id = options.makeJoinToken();
      await state.as("").create(JoinTokenKind, id, { name, ...(expirationTime ? { expirationTime } : {}) });
      return { id };
    },
  };
}

/** The cluster of a request; empty without one. Throws `not_found`. */
async function clusterOf(state: State, name: string): Promise<string> {
  if (name && !(await state.get(ClusterKind, name))) throw new IchorError("not_found", `there is no cluster "${name}"`);
  return name;
}

/** Kubernetes groups: what the caller may have, at most what it asks for. */
function groupsOf(
  caller: Caller,
  { serviceAccountGroups }: { readonly serviceAccountGroups: readonly string[] },
): string[] {
  const most = atLeast(caller.role, "Operator") ? "system:masters" : "ichor:reader";
  if (serviceAccountGroups.length === 0) return [most];
  if (most !== "system:masters" && serviceAccountGroups.some((group) => group !== most))
    throw new IchorError("permission_denied", `${caller.identity} may act only in the group ${most}`);
  return [...serviceAccountGroups];
}
