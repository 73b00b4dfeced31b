import { type ClusterStatusSpec, ClusterStatusSpec_Phase } from "#gen/specs/specs_pb.ts";

/** The state of a cluster in words and colour. */
export function phaseOf(status: ClusterStatusSpec | undefined): {
  tone: "good" | "warn" | "bad" | "idle";
  text: string;
  busy?: boolean;
} {
  switch (status?.phase) {
    case ClusterStatusSpec_Phase.RUNNING:
      if (!status.ready) return { tone: "warn", text: "Running, not ready", busy: true };
      return status.kubernetesAPIReady
        ? { tone: "good", text: "Running" }
        : { tone: "bad", text: "Kubernetes API does not answer" };
    case ClusterStatusSpec_Phase.SCALING_UP:
      return { tone: "warn", text: "Scaling up", busy: true };
    case ClusterStatusSpec_Phase.SCALING_DOWN:
      return { tone: "warn", text: "Scaling down", busy: true };
    case ClusterStatusSpec_Phase.DESTROYING:
      return { tone: "bad", text: "Destroying", busy: true };
    default:
      return { tone: "idle", text: "Waiting" };
  }
}
