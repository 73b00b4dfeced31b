import { fromBinary, type Message } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Event, EventType } from "#gen/cosi/resource/resource_pb.ts";
import { abortable } from "#lib/abort.ts";
import { IchorError } from "#lib/errors.ts";
import type { TalosClient } from "./client.ts";

/** A kind of Talos resource: see protocols.md 6.3 for names. */
export interface TalosKind<S extends Message> {
  readonly namespace: string;
  readonly type: string;
  readonly spec: GenMessage<S>;
}

/** A Talos resource, decoded. */
export interface TalosResource<S extends Message> {
  readonly id: string;
  readonly version: string;
  readonly spec: S;
}

/** A change told by a watch; `ready` when all that existed has been told. */
export type TalosEvent<S extends Message> =
  | { readonly kind: "changed"; readonly resource: TalosResource<S> }
  | { readonly kind: "destroyed"; readonly id: string }
  | { readonly kind: "ready" };

/** One resource; undefined when it does not exist, or when this Talos does not have the type (trap 14). */
export async function getTalos<S extends Message>(
  { state }: TalosClient,
  kind: TalosKind<S>,
  id: string,
  signal?: AbortSignal,
): Promise<TalosResource<S> | undefined> {
  try {
    const { resource } = await state.get({ namespace: kind.namespace, type: kind.type, id }, signal ? { signal } : {});
    return (
      resource && decode(kind, resource.metadata?.id ?? id, resource.metadata?.version ?? "", resource.spec?.protoSpec)
    );
  } catch (error) {
    const { code } = ConnectError.from(error);
    if (code === Code.NotFound || code === Code.PermissionDenied) return undefined;
    throw error;
  }
}

/** All resources of a kind; empty when this Talos does not have the type. */
export async function listTalos<S extends Message>(
  { state }: TalosClient,
  kind: TalosKind<S>,
  signal?: AbortSignal,
): Promise<TalosResource<S>[]> {
  const found: TalosResource<S>[] = [];
  try {
    for await (const { resource } of state.list(
      { namespace: kind.namespace, type: kind.type },
      signal ? { signal } : {},
    )) {
      if (resource)
        found.push(
          decode(kind, resource.metadata?.id ?? "", resource.metadata?.version ?? "", resource.spec?.protoSpec),
        );
    }
  } catch (error) {
    if (ConnectError.from(error).code !== Code.PermissionDenied) throw error;
  }
  return found;
}

/**
 * Tells `take` what is and what changes. Ends by a throw alone: the signal's reason, what `take` threw, or that the machine is gone. A type that
 * this Talos does not have is told as `ready`, and then nothing until the signal aborts.
 */
export async function watchTalos<S extends Message>(
  { watch }: TalosClient,
  kind: TalosKind<S>,
  take: (event: TalosEvent<S>) => void,
  signal: AbortSignal,
): Promise<never> {
  const request = { namespace: kind.namespace, type: kind.type, options: { bootstrapContents: true }, apiVersion: 1 };
  try {
    await watch(request, ({ event }) => tell(kind, event, take), signal);
  } catch (error) {
    if (!(error instanceof ConnectError && error.code === Code.PermissionDenied)) throw error;
    take({ kind: "ready" });
    return abortable(new Promise<never>(() => {}), signal);
  }
  throw new IchorError("unavailable", `the machine ended the watch of ${kind.type}`);
}

function tell<S extends Message>(
  kind: TalosKind<S>,
  events: readonly Event[],
  take: (event: TalosEvent<S>) => void,
): void {
  for (const { eventType, resource, error } of events) {
    const id = resource?.metadata?.id ?? "";
    if (eventType === EventType.BOOTSTRAPPED) take({ kind: "ready" });
    else if (eventType === EventType.ERRORED)
      throw new IchorError("unavailable", `the machine ended the watch of ${kind.type}: ${error ?? "no reason given"}`);
    else if (eventType === EventType.DESTROYED) take({ kind: "destroyed", id });
    else if (eventType !== EventType.NOOP && resource)
      take({ kind: "changed", resource: decode(kind, id, resource.metadata?.version ?? "", resource.spec?.protoSpec) });
  }
}

function decode<S extends Message>(
  kind: TalosKind<S>,
  id: string,
  version: string,
  bytes: Uint8Array | undefined,
): TalosResource<S> {
  try {
    return { id, version, spec: fromBinary(kind.spec, bytes ?? new Uint8Array()) };
  } catch (cause) {
    throw new IchorError("data_loss", `the machine sent a ${kind.type} that cannot be decoded`, { cause });
  }
}
