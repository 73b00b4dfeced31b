import { ClusterProgressSpecSchema } from "#gen/ichor/v1/ichor_pb.ts";
import { defineKind } from "#resource/kind.ts";

/** What a cluster waits for and since when. Id: cluster name. */
export const ClusterProgressKind = defineKind({
  type: "ClusterProgresses.ichor.dev",
  namespace: "default",
  spec: ClusterProgressSpecSchema,
  writer: "plane",
});
