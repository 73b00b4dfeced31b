import { stringify } from "yaml";
import type { Path, Positioned, Template } from "./parse.ts";
import type { Problem } from "./problem.ts";
import type { ManifestEntry, PatchEntry } from "./schema.ts";

/** Finds what is wrong with the text of a configuration patch; the caller brings Talos' knowledge. */
export type PatchCheck = (
  text: string,
) => readonly { readonly message: string; readonly line?: number; readonly fix?: string }[];

/** What the rules across documents need from outside. */
export interface CheckOptions {
  /** Content of a file named by the template; throws with a plain message when it cannot be read. */
  readFile(path: string): string;
  /** Texts of what a Kubernetes version with a Talos version is refused for; undefined when they fit. */
  incompatible(talos: string, kubernetes: string): string | undefined;
  checkPatch: PatchCheck;
}

/** The rules of protocols.md 14 that no single document shows, and those of the reference architecture that refuse a template. */
export function checkTemplate(template: Template, options: CheckOptions): Problem[] {
  const problems: Problem[] = [];
  const { cluster, controlPlane, workers, machines } = template;

  const refused = options.incompatible(cluster.value.talos.version, cluster.value.kubernetes.version);
  if (refused) problems.push(cluster.problem(["kubernetes", "version"], refused));

  const seen = new Map<string, string>();
  const controlPlanes = new Set(controlPlane.value.machines);
  const names = new Set<string>();
  for (const set of [controlPlane, ...workers]) {
    const name =
      set === controlPlane ? "control-planes" : ((set as Template["workers"][number]).value.name ?? "workers");
    if (set !== controlPlane && name === "control-planes")
      problems.push(set.problem(["name"], "the name control-planes is taken by the control plane", "choose another"));
    if (names.has(name))
      problems.push(set.problem(["name"], `there are two sets of workers named "${name}"`, "give each its own name"));
    names.add(name);
    if (set.value.machines && set.value.machineClass)
      problems.push(set.problem(["machineClass"], "machines and machineClass exclude each other", "keep one"));
    if (set.value.machineClass && set.value.kernelArgs)
      problems.push(
        set.problem(["kernelArgs"], "kernelArgs cannot be combined with a machine class", "put them into the class"),
      );
    for (const [index, id] of (set.value.machines ?? []).entries()) {
      const before = seen.get(id.toLowerCase());
      if (before)
        problems.push(
          set.problem(
            ["machines", index],
            `machine ${id} is already in ${before}`,
            "a machine belongs to one set, once",
          ),
        );
      seen.set(id.toLowerCase(), name);
    }
  }
  problems.push(...controlPlaneCount(template));

  const described = new Set<string>();
  for (const machine of machines) {
    const { name, locked, install } = machine.value;
    if (!seen.has(name.toLowerCase()))
      problems.push(
        machine.problem(
          ["name"],
          `machine ${name} is in no set of this template`,
          "list it under ControlPlane or Workers",
        ),
      );
    if (described.has(name.toLowerCase()))
      problems.push(machine.problem(["name"], `machine ${name} is described twice`, "merge the documents"));
    described.add(name.toLowerCase());
    if (locked && controlPlanes.has(name))
      problems.push(machine.problem(["locked"], "a control plane machine cannot be locked", "remove locked"));
    if (install?.disk && install.diskSelector)
      problems.push(
        machine.problem(["install", "diskSelector"], "disk and diskSelector exclude each other", "keep one"),
      );
  }

  for (const document of [cluster, controlPlane, ...workers, ...machines]) {
    for (const [index, patch] of (document.value.patches ?? []).entries()) {
      problems.push(...checkPatchEntry(document, ["patches", index], patch, options));
    }
  }
  for (const [index, manifest] of (cluster.value.kubernetes.manifests ?? []).entries()) {
    problems.push(...checkSource(cluster, ["kubernetes", "manifests", index], manifest, options).problems);
  }
  return problems;
}

function controlPlaneCount({ controlPlane }: Template): Problem[] {
  const { machines, machineClass } = controlPlane.value;
  const count = machines?.length ?? (typeof machineClass?.size === "number" ? machineClass.size : undefined);
  const path: Path = machineClass ? ["machineClass", "size"] : ["machines"];
  if (count === undefined && machineClass) {
    return [controlPlane.problem(path, "a control plane cannot be of unlimited size", "give 1 or 3")];
  }
  if (!count)
    return [controlPlane.problem(path, "a cluster needs a control plane machine", "list one machine, or three")];
  if (count % 2 === 1) return [];
  const why =
    count === 2
      ? "with two, etcd stops when either is lost: worse than one"
      : `${count} tolerate no more losses than ${count - 1}`;
  return [
    controlPlane.problem(
      path,
      `an even number of control planes (${count}) is not supported: ${why}`,
      `use ${count - 1} or ${count + 1}`,
    ),
  ];
}

function checkPatchEntry(
  document: Positioned<unknown>,
  path: Path,
  patch: PatchEntry,
  options: CheckOptions,
): Problem[] {
  const { problems, text } = checkSource(document, path, patch, options);
  if (text === undefined) return problems;
  const field = patch.file ? "file" : "inline";
  for (const found of options.checkPatch(text)) {
    const line = found.line ? ` (line ${found.line} of ${patch.file ?? "the patch"})` : "";
    problems.push(document.problem([...path, field], `${found.message}${line}`, found.fix));
  }
  return problems;
}

/** Exactly one of file and inline, a name, and a file that can be read. */
function checkSource(
  document: Positioned<unknown>,
  path: Path,
  entry: PatchEntry | ManifestEntry,
  options: CheckOptions,
): { problems: Problem[]; text?: string } {
  if ((entry.file === undefined) === (entry.inline === undefined)) {
    const both = entry.file !== undefined;
    return {
      problems: [
        document.problem(
          path,
          both ? "file and inline exclude each other" : "needs file or inline",
          both ? "keep one" : "add one",
        ),
      ],
    };
  }
  const id = "idOverride" in entry ? entry.idOverride : undefined;
  if (entry.file === undefined && !entry.name && !id)
    return { problems: [document.problem(path, "an inline entry needs a name", "add name")] };
  try {
    return { problems: [], text: sourceText(entry, options.readFile) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return {
      problems: [
        document.problem([...path, "file"], `cannot read ${entry.file}: ${why}`, "paths are relative to the template"),
      ],
    };
  }
}

/** The YAML text of a patch or manifest: the file's, or the inline value written out (one or several documents). */
export function sourceText(entry: PatchEntry | ManifestEntry, readFile: (path: string) => string): string {
  if (entry.file !== undefined) return readFile(entry.file);
  if (typeof entry.inline === "string") return entry.inline;
  const documents = Array.isArray(entry.inline) ? entry.inline : [entry.inline];
  return documents.map((document) => stringify(document)).join("---\n");
}
