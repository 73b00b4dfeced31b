import { gunzipSync } from "node:zlib";
import type { ClusterSpec, ConfigPatchSpec } from "#gen/specs/specs_pb.ts";
import type { Validate } from "#guard/guarded-store.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ConfigPatchKind } from "#kinds/cluster/config-patch.ts";
import { messageOf } from "#lib/errors.ts";
import { incompatible } from "#talos/compatibility.ts";
import { checkPatch } from "#talos/patch-check.ts";

/** Largest text of a patch. */
const largest = 4 << 20;
/** More than these would not be read. */
const mostTold = 10;

/** What Talos' knowledge says of what users write (protocols.md 11.6): at the API, since not every client is ours. */
export const validate: Validate = (kind, { metadata, spec }) => {
  if (kind === ClusterKind) return clusterProblems(metadata.id, spec as ClusterSpec);
  if (kind === ConfigPatchKind) return patchProblems(spec as ConfigPatchSpec).slice(0, mostTold);
  return [];
};

function clusterProblems(name: string, { talosVersion, kubernetesVersion }: ClusterSpec): string[] {
  const problems: string[] = [];
  if (!/^[A-Za-z0-9_-]{1,63}$/.test(name))
    problems.push("the name of a cluster has at most 63 letters, digits, - and _");
  try {
    const refusal = incompatible(talosVersion, kubernetesVersion);
    if (refusal) problems.push(refusal);
  } catch (error) {
    problems.push(messageOf(error));
  }
  return problems;
}

function patchProblems({ data, compressedData }: ConfigPatchSpec): string[] {
  let text = data;
  if (compressedData.length > 0) {
    try {
      text = gunzipSync(compressedData, { maxOutputLength: largest }).toString();
    } catch {
      return ["the compressed patch is not gzip of at most 4 MiB: send it as plain text"];
    }
  }
  return checkPatch(text).map(({ message, line, fix }) => {
    const where = line === undefined ? "" : ` (line ${line})`;
    return `${message}${where}${fix ? `; ${fix}` : ""}`;
  });
}
