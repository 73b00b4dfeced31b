import type { Message } from "@bufbuild/protobuf";
import type { Kind } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { Wanted } from "#template/render.ts";

/** An existing resource with another spec, ready to be written. */
export function toWanted<S extends Message>(kind: Kind<S>, current: Resource<S>, edit: (spec: S) => S): Wanted {
  const { id, labels, annotations } = current.metadata;
  return { kind, id, spec: edit(current.spec), labels, annotations };
}
