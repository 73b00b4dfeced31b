import type { ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import type { Boot } from "#emulator/boot.ts";
import type { KubeObject, KubeObjects } from "./objects.ts";
import type { Target } from "./request.ts";
import { badRequest, KubeError } from "./status.ts";

/** Names of a pod's containers. */
export function containersOf(pod: KubeObject): string[] {
  const spec = pod.spec as { containers?: { name?: unknown }[] } | undefined;
  return (Array.isArray(spec?.containers) ? spec.containers : []).flatMap((container) =>
    typeof container?.name === "string" ? [container.name] : [],
  );
}

/** The pod and container that a subresource is about. Throws a KubeError. */
export function podOf(
  objects: KubeObjects,
  target: Target,
  query: URLSearchParams,
): { pod: KubeObject; container: string } {
  const pod = objects.get("/pods", target.namespace, target.name);
  if (!pod) throw new KubeError(404, "NotFound", `pods "${target.name}" not found`);
  const names = containersOf(pod);
  const wanted = query.get("container") ?? names[0] ?? "";
  if (!names.includes(wanted))
    throw badRequest(`container ${wanted.slice(0, 100)} is not valid for pod ${target.name}`);
  if (query.get("container") === null && names.length > 1)
    throw badRequest(`a container name must be specified for pod ${target.name}, choose one of: [${names.join(" ")}]`);
  return { pod, container: wanted };
}

/** A few lines such as the container would have written. */
export function logLines(pod: KubeObject, container: string): string[] {
  const start = pod.metadata.creationTimestamp ?? "";
  return [
    `${start} ${container}: starting on ${String((pod.spec as { nodeName?: string } | undefined)?.nodeName ?? "unknown")}`,
    `${start} ${container}: listening`,
    `${start} ${container}: ready`,
  ];
}

/** `kubectl logs`. */
export function podLog(
  boot: Boot,
  objects: KubeObjects,
  target: Target,
  query: URLSearchParams,
  response: ServerResponse | Http2ServerResponse,
): void {
  const { pod, container } = podOf(objects, target, query);
  const out = response as ServerResponse;
  const tail = query.get("tailLines");
  const lines = logLines(pod, container);
  out.statusCode = 200;
  out.setHeader("content-type", "text/plain");
  out.write(`${lines.slice(tail === null ? 0 : -Math.max(0, Number(tail)) || lines.length).join("\n")}\n`);
  if (query.get("follow") !== "true") {
    out.end();
    return;
  }
  const stop = objects.subscribe((event) => {
    if (event.resource === "/pods" && event.type === "DELETED" && event.object.metadata.uid === pod.metadata.uid)
      out.end();
  });
  const end = () => out.end();
  boot.signal.addEventListener("abort", end, { once: true });
  out.on("close", () => {
    stop();
    boot.signal.removeEventListener("abort", end);
  });
}
