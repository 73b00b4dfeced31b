import { create, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ResourceSchema, type Resource as WireResource } from "#gen/cosi/resource/resource_pb.ts";
import { IchorError } from "#lib/errors.ts";
import type { Kind } from "#resource/kind.ts";
import type { Metadata, Resource } from "#resource/resource.ts";

/** A resource as `cosi.resource.State` carries it, decoded. Throws `data_loss` when its spec is not of the kind. */
export function fromWire<S extends Message>(kind: Kind<S>, wire: WireResource): Resource<S> {
  try {
    return { metadata: metadataFromWire(wire), spec: fromBinary(kind.spec, wire.spec?.protoSpec ?? new Uint8Array()) };
  } catch (cause) {
    throw new IchorError("data_loss", `${kind.type} "${wire.metadata?.id}" cannot be decoded`, { cause });
  }
}

/** The envelope alone; a version that is not a number (`undefined` for new ones) is 0. */
export function metadataFromWire(wire: WireResource): Metadata {
  const from = wire.metadata;
  return {
    namespace: from?.namespace ?? "",
    type: from?.type ?? "",
    id: from?.id ?? "",
    version: versionOf(from?.version),
    phase: from?.phase === "tearingDown" ? "tearingDown" : "running",
    owner: from?.owner ?? "",
    labels: from?.labels ?? {},
    annotations: from?.annotations ?? {},
    finalizers: from?.finalizers ?? [],
    created: from?.created ? timestampDate(from.created).getTime() : 0,
    updated: from?.updated ? timestampDate(from.updated).getTime() : 0,
  };
}

function versionOf(text = ""): number {
  const version = /^\d+$/.test(text) ? Number(text) : 0;
  return Number.isSafeInteger(version) ? version : 0;
}

/** The inverse of {@link fromWire}, with the protobuf form of the spec only. */
export function toWire<S extends Message>(kind: Kind<S>, metadata: Metadata, spec: S): WireResource {
  return create(ResourceSchema, {
    metadata: {
      namespace: metadata.namespace,
      type: metadata.type,
      id: metadata.id,
      version: metadata.version > 0 ? String(metadata.version) : "undefined",
      phase: metadata.phase,
      owner: metadata.owner,
      labels: { ...metadata.labels },
      annotations: { ...metadata.annotations },
      finalizers: [...metadata.finalizers],
      ...(metadata.created ? { created: timestampFromMs(metadata.created) } : {}),
      ...(metadata.updated ? { updated: timestampFromMs(metadata.updated) } : {}),
    },
    spec: { protoSpec: toBinary(kind.spec, spec) },
  });
}
