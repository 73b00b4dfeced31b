import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type ClusterProgressSpec, ClusterProgressSpec_State } from "#gen/ichor/v1/ichor_pb.ts";
import { type ClusterStatusSpec, ClusterStatusSpec_Phase, ClusterStatusSpec_PhaseSchema } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterProgressKind } from "#kinds/cluster/cluster-progress.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { IchorError } from "#lib/errors.ts";
import type { Invocation } from "./command.ts";
import { age, print, printJson, say } from "./output.ts";

/**
 * Shows what a cluster waits for; with `wait`, a line for each change until it is Running. Throws `not_found` when there is no such
 * cluster, `deadline_exceeded` with what it still waits for when `timeout` (such as `10m`) is over.
 */
export async function showProgress(
  { plane, json, signal }: Invocation,
  name: string,
  options: { wait: boolean; timeout?: string },
): Promise<void> {
  if (!(await plane.state.get(ClusterKind, name)))
    throw new IchorError("not_found", `there is no cluster "${name}"; see: ichor cluster list`);
  const [status, progress] = await Promise.all([
    plane.state.get(ClusterStatusKind, name),
    plane.state.get(ClusterProgressKind, name),
  ]);
  if (!options.wait) {
    if (json) printJson(toJson(name, status?.spec, progress?.spec));
    else for (const line of lines(name, status?.spec, progress?.spec)) print(line);
    return;
  }
  const end = options.timeout ? AbortSignal.any([signal, AbortSignal.timeout(milliseconds(options.timeout))]) : signal;
  const stop = new AbortController();
  const both = AbortSignal.any([end, stop.signal]);
  const shown = new Set<string>();
  const now: { status?: ClusterStatusSpec; progress?: ClusterProgressSpec } = {};
  const follow = async (): Promise<void> => {
    for await (const change of plane.state.watch(ClusterProgressKind, { id: name, signal: both })) {
      if (change.kind === "bootstrapped" || change.kind === "destroyed") continue;
      now.progress = change.resource.spec;
      if (json) continue;
      for (const line of stepLines(change.resource.spec))
        if (!shown.has(line.key) && shown.add(line.key)) print(line.text);
    }
  };
  const reach = async (): Promise<void> => {
    for await (const change of plane.state.watch(ClusterStatusKind, { id: name, signal: both })) {
      if (change.kind === "bootstrapped" || change.kind === "destroyed") continue;
      now.status = change.resource.spec;
      if (isRunning(change.resource.spec)) return stop.abort();
    }
  };
  await Promise.all([follow(), reach()]);
  if (now.status && isRunning(now.status)) {
    if (json) printJson(toJson(name, now.status, now.progress));
    else
      print(
        `${name} is Running: ${now.status.machines?.healthy ?? 0}/${now.status.machines?.total ?? 0} machines ready`,
      );
    if (!json && now.progress?.lastError) say(`but: ${now.progress.lastError}`);
    return;
  }
  signal.throwIfAborted();
  const waiting = now.progress?.steps.find((step) => step.state !== ClusterProgressSpec_State.DONE);
  throw new IchorError(
    "deadline_exceeded",
    `${name} is not Running after ${options.timeout}: waiting for ${waiting?.title ?? "its first status"}${waiting?.detail ? ` (${waiting.detail})` : ""}`,
  );
}

/** The phase of a cluster in Omni's words. */
export function phaseName(status: ClusterStatusSpec | undefined): string {
  return ClusterStatusSpec_PhaseSchema.value[status?.phase ?? 0]?.localName ?? "UNKNOWN";
}

/** Whether a cluster has all that its template asks for. */
export function isRunning(status: ClusterStatusSpec): boolean {
  return status.phase === ClusterStatusSpec_Phase.RUNNING && status.ready && status.kubernetesAPIReady;
}

const words = ["waiting", "working", "done", "failed"];

function* stepLines(progress: ClusterProgressSpec): Generator<{ key: string; text: string }> {
  for (const step of progress.steps) {
    if (step.state === ClusterProgressSpec_State.WAITING) continue;
    const count = step.total ? ` ${step.done}/${step.total}` : "";
    const about = step.error || step.detail;
    yield {
      key: `${step.id} ${step.state}${count}${about}`,
      text: `${(words[step.state] ?? "").padEnd(8)} ${step.title}${count}${about ? `: ${about}` : ""}`,
    };
  }
}

function lines(name: string, status?: ClusterStatusSpec, progress?: ClusterProgressSpec): string[] {
  const phase = phaseName(status);
  const head = `${name}: ${phase}${status?.ready ? ", ready" : ""}, ${status?.machines?.healthy ?? 0}/${status?.machines?.total ?? 0} machines ready`;
  const steps = (progress?.steps ?? []).map((step) => {
    const since = step.since ? ` for ${age(timestampDate(step.since).getTime())}` : "";
    const count = step.total ? ` ${step.done}/${step.total}` : "";
    const open = step.state !== ClusterProgressSpec_State.DONE;
    return `  ${(words[step.state] ?? "").padEnd(8)} ${step.title}${count}${open ? since : ""}${open && step.detail ? `: ${step.detail}` : ""}${step.error ? ` [${step.error}]` : ""}`;
  });
  return [head, ...steps, ...(progress?.lastError ? [`  last error: ${progress.lastError}`] : [])];
}

function toJson(name: string, status?: ClusterStatusSpec, progress?: ClusterProgressSpec): unknown {
  const steps = progress?.steps.map(({ id, title, state, since, detail, error, done, total }) => {
    return {
      id,
      title,
      state: words[state],
      since: since && timestampDate(since).toISOString(),
      detail,
      error,
      done,
      total,
    };
  });
  return {
    name,
    phase: phaseName(status),
    ready: status?.ready ?? false,
    machines: {
      total: status?.machines?.total ?? 0,
      healthy: status?.machines?.healthy ?? 0,
      connected: status?.machines?.connected ?? 0,
    },
    kubernetesAPIReady: status?.kubernetesAPIReady ?? false,
    steps: steps ?? [],
    lastError: progress?.lastError ?? "",
  };
}

/** Milliseconds of `90s`, `10m`, `1h`; throws `invalid_argument`. */
export function milliseconds(text: string): number {
  const match = /^(\d+)(s|m|h)$/.exec(text);
  if (!match) throw new IchorError("invalid_argument", `"${text}" is not a duration such as 90s, 10m or 1h`);
  return Number(match[1]) * { s: 1000, m: 60_000, h: 3_600_000 }[match[2] as "s" | "m" | "h"];
}
