import { isScalar, LineCounter, parseAllDocuments, visit } from "yaml";
import { IchorError } from "#lib/errors.ts";
import { isMain } from "./document.ts";
import { parsePatch } from "./patch.ts";

/** Something wrong in a patch; `line` from 1. */
export interface PatchProblem {
  readonly message: string;
  readonly line?: number;
  readonly fix?: string;
}

/** Fields that the plane sets itself (protocols.md 11.6). */
const forbidden = [
  ...[
    "clusterName",
    "id",
    "controlPlane.endpoint",
    "token",
    "secret",
    "aescbcEncryptionSecret",
    "secretboxEncryptionSecret",
    "ca",
    "acceptedCAs",
    "serviceAccount",
  ].map((field) => `cluster.${field}`),
  ...["token", "ca", "type", "install.disk", "install.extensions", "acceptedCAs"].map((field) => `machine.${field}`),
];
const forbiddenKinds = new Set([
  "UnattendedInstallConfig",
  "DiscoveryIdentityConfig",
  "KubeClusterConfig",
  "KubeEtcdEncryptionConfig",
  "KubeAPIServerCAConfig",
  "KubeAggregatorCAConfig",
]);
const topLevel = new Set(["version", "debug", "persist", "machine", "cluster", "$patch"]);

/** What is wrong with a user's patch: its YAML, its shape, what only the plane may set. Values are not judged: Talos does that. */
export function checkPatch(text: string): PatchProblem[] {
  let documents: ReturnType<typeof parsePatch>;
  try {
    documents = parsePatch(text);
  } catch (error) {
    return [{ message: error instanceof IchorError ? error.message : "cannot be read" }];
  }
  if (documents.length === 0)
    return [{ message: "the patch is empty", fix: "remove it, or write what it should change" }];
  const lineOf = lineFinder(text);
  const problems: PatchProblem[] = [];
  for (const [index, { document, line }] of documents.entries()) {
    const at = (path: string) => lineOf(index, path) ?? line;
    if (!isMain(document)) {
      if (typeof document.kind !== "string")
        problems.push({ message: "a document with apiVersion needs a kind", line });
      else if (forbiddenKinds.has(document.kind))
        problems.push({ message: `documents of kind ${document.kind} are the plane's own`, line, fix: "remove it" });
      else if (document.apiVersion !== "v1alpha1")
        problems.push({ message: `apiVersion of ${document.kind} must be v1alpha1`, line: at("apiVersion") });
      continue;
    }
    for (const key of Object.keys(document)) {
      if (!topLevel.has(key))
        problems.push({
          message: `there is no field "${key}" at the top of a configuration`,
          line: at(key),
          fix: "use machine or cluster, or give the document apiVersion and kind",
        });
    }
    for (const path of forbidden) {
      if (valueAt(document, path) !== undefined)
        problems.push({ message: `${path} is set by the plane`, line: at(path), fix: "remove it" });
    }
    const roles = valueAt(document, "machine.features.kubernetesTalosAPIAccess.allowedRoles");
    if (Array.isArray(roles) && roles.includes("os:admin")) {
      problems.push({
        message: "os:admin may not be given to workloads",
        line: at("machine.features.kubernetesTalosAPIAccess.allowedRoles"),
        fix: "use os:reader or os:operator",
      });
    }
  }
  return problems;
}

function valueAt(document: Record<string, unknown>, path: string): unknown {
  let value: unknown = document;
  for (const part of path.split("."))
    value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[part] : undefined;
  return value;
}

/** Lines of the keys of each document, by dotted path. */
function lineFinder(text: string): (index: number, path: string) => number | undefined {
  const counter = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: counter, logLevel: "silent" });
  const documents = (Array.isArray(parsed) ? parsed : []).filter(({ contents }) => contents !== null);
  const found = documents.map((document) => {
    const lines = new Map<string, number>();
    visit(document, {
      Pair(_, pair, ancestors) {
        const keys = [...ancestors, pair].flatMap((node) =>
          "key" in node && isScalar(node.key) ? [String(node.key.value)] : [],
        );
        const range = isScalar(pair.key) ? pair.key.range : undefined;
        if (range) lines.set(keys.join("."), counter.linePos(range[0]).line);
      },
    });
    return lines;
  });
  return (index, path) => found[index]?.get(path);
}
