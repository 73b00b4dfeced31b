import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { State, WatchRequestSchema, type WatchResponse } from "#gen/cosi/resource/resource_pb.ts";
import { ImageService, LifecycleService, MachineService } from "#gen/machine/machine_pb.ts";
import { StorageService } from "#gen/storage/storage_pb.ts";
import { IchorError, messageOf, type Code as OurCode } from "#lib/errors.ts";
import { largestMessage, MachineSession, type SessionOptions } from "./session.ts";
import { callWatch } from "./watch-call.ts";

/** The Talos API of one machine. */
export interface TalosClient {
  readonly machine: Client<typeof MachineService>;
  readonly storage: Client<typeof StorageService>;
  readonly images: Client<typeof ImageService>;
  readonly lifecycle: Client<typeof LifecycleService>;
  readonly state: Client<typeof State>;
  /** `state.watch` at a fraction of its memory; see {@link callWatch}. */
  watch(
    request: MessageInitShape<typeof WatchRequestSchema>,
    take: (response: WatchResponse) => void,
    signal: AbortSignal,
  ): Promise<void>;
  close(): void;
}

/** Opens nothing until the first call; all calls share one connection. */
export function createTalosClient(options: SessionOptions): TalosClient {
  const sessionManager = new MachineSession(options);
  const transport: Transport = createGrpcTransport({
    baseUrl: sessionManager.authority,
    sessionManager,
    readMaxBytes: largestMessage,
    writeMaxBytes: largestMessage,
  });
  return {
    machine: createClient(MachineService, transport),
    storage: createClient(StorageService, transport),
    images: createClient(ImageService, transport),
    lifecycle: createClient(LifecycleService, transport),
    state: createClient(State, transport),
    watch: (request, take, signal) => callWatch(sessionManager, create(WatchRequestSchema, request), take, signal),
    close: () => sessionManager.close(),
  };
}

/** What a call failed with, as ours: the machine's code and words, with what was tried. */
export function machineError(error: unknown, doing: string): IchorError {
  if (error instanceof IchorError) return error;
  if (error instanceof ConnectError && error.cause instanceof IchorError) return error.cause;
  if (error instanceof ConnectError) {
    const code = Code[error.code].replace(/[A-Z]/g, (letter, at) => (at ? "_" : "") + letter.toLowerCase()) as OurCode;
    return new IchorError(code, `${doing}: ${error.rawMessage}`, { cause: error });
  }
  return new IchorError("unknown", `${doing}: ${messageOf(error)}`, { cause: error });
}
