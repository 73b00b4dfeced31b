import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { stringify } from "yaml";
import { type Invocation, verb } from "#cli/command.ts";
import { age, answer, print, printJson } from "#cli/output.ts";
import { allKinds } from "#kinds/all.ts";
import { label } from "#kinds/labels.ts";
import { IchorError } from "#lib/errors.ts";
import { singular } from "#lib/plural.ts";
import type { AnyKind } from "#resource/kind.ts";
import { labelled } from "#resource/query.ts";
import type { Resource } from "#resource/resource.ts";
import { nearest } from "#template/problem.ts";

interface Options {
  cluster?: string;
  watch?: boolean;
  output?: "table" | "yaml";
}

/** `ichor get` */
export const get: Command = verb<Options>(
  "get <type> [id]",
  "any resource of the plane, by type or alias",
  async (invocation, options, type = "", id) => {
    const kind = resolveKind(type);
    if (options.watch) return watch(invocation, kind, id);
    const query = options.cluster ? labelled({ [label.cluster]: options.cluster }) : undefined;
    const found: Resource[] =
      id === undefined ? await invocation.plane.state.list(kind, query) : [await one(invocation, kind, id)];
    if (options.output === "yaml") {
      print(
        found
          .map((resource) => stringify(JSON.parse(JSON.stringify(plain(kind, resource)))))
          .join("---\n")
          .trimEnd(),
      );
      return;
    }
    if (id !== undefined && invocation.json) {
      printJson(plain(kind, found[0]!));
      return;
    }
    answer(found, {
      json: invocation.json,
      toJson: (resource) => plain(kind, resource),
      empty: `There are no ${kind.type.split(".")[0]}.`,
      columns: [
        ["ID", ({ metadata }) => metadata.id],
        ["VERSION", ({ metadata }) => metadata.version],
        ["PHASE", ({ metadata }) => metadata.phase],
        ["OWNER", ({ metadata }) => metadata.owner],
        ["AGE", ({ metadata }) => age(metadata.created)],
      ],
    });
  },
)
  .option("-c, --cluster <name>", "only those of a cluster")
  .option("-w, --watch", "one JSON line for each change")
  .option("-o, --output <form>", "yaml");

/** A kind by type, plural or singular name, or alias. Throws `invalid_argument` with what was meant. */
export function resolveKind(name: string): AnyKind {
  const wanted = name.toLowerCase();
  const names = new Map<string, AnyKind>();
  for (const kind of allKinds) {
    if (kind.read === "nobody") continue;
    const plural = kind.type.toLowerCase().split(".")[0] ?? "";
    for (const text of [kind.type.toLowerCase(), plural, singular(plural), ...(kind.aliases ?? [])])
      names.set(text, kind);
  }
  const kind = names.get(wanted);
  if (kind) return kind;
  const meant = nearest(wanted, [...names.keys()]);
  throw new IchorError("invalid_argument", `there is no type "${name}"${meant ? `; did you mean ${meant}?` : ""}`);
}

async function one({ plane }: Invocation, kind: AnyKind, id: string): Promise<Resource> {
  const found = await plane.state.get(kind, id);
  if (!found) throw new IchorError("not_found", `there is no ${kind.type} "${id}"`);
  return found;
}

async function watch({ plane, signal }: Invocation, kind: AnyKind, id?: string): Promise<void> {
  for await (const change of plane.state.watch(kind, { signal, ...(id === undefined ? {} : { id }) })) {
    if (change.kind !== "bootstrapped") print(JSON.stringify({ event: change.kind, ...plain(kind, change.resource) }));
  }
}

function plain(kind: AnyKind, { metadata, spec }: Resource) {
  const time = (ms: number) => new Date(ms).toISOString();
  return {
    metadata: { ...metadata, created: time(metadata.created), updated: time(metadata.updated) },
    spec: toJson(kind.spec, spec),
  };
}
