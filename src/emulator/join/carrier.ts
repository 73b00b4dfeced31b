import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIPv6 } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { grpcTo } from "#emulator/grpc.ts";
import { type PeerPacketSchema, WireGuardOverGRPCService } from "#gen/sidero/link/link_pb.ts";
import { abortable, sleep } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import { parseHostPort } from "#lib/ip.ts";
import type { JoinTarget } from "./arguments.ts";
import { machineApi } from "./provision.ts";

/** Carries WireGuard datagrams between a machine and one far end. */
export interface Carrier {
  send(datagram: Uint8Array): void;
  /** Resolves when the far end will have no more of it, with the reason: provision again. Never when all is well. */
  readonly refused: Promise<string>;
  close(): void;
}

/** Carries by UDP: one socket. Host names are resolved now. */
export async function udpCarrier(endpoint: string, receive: (datagram: Uint8Array) => void): Promise<Carrier> {
  const { host, port } = parseHostPort(endpoint);
  const { address } = await lookup(host);
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
  socket.on("message", (message) => receive(message));
  socket.on("error", () => {});
  // Connected: the kernel drops what comes from elsewhere, and needs no route look-up for each datagram.
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.connect(port, address, () => {
      socket.off("error", reject);
      resolve();
    });
  });
  let open = true;
  return {
    send(datagram) {
      if (open) socket.send(datagram, () => {});
    },
    refused: new Promise(() => {}),
    close() {
      if (!open) return;
      open = false;
      socket.close();
    },
  };
}

const queueLimit = 100;

/** Carries in a gRPC stream named by the virtual address (protocols.md 3); reopened after any error but the two that refuse it. */
export function tunnelCarrier(options: {
  readonly target: JoinTarget;
  readonly trustedRoots: readonly string[];
  readonly address: string;
  readonly clock: Clock;
  readonly retry: number;
  readonly note: (text: string) => void;
  readonly receive: (datagram: Uint8Array) => void;
}): Carrier {
  const { clock, note } = options;
  const stopped = new AbortController();
  const queue: Uint8Array[] = [];
  let wake = Promise.withResolvers<void>();
  const { promise: refused, resolve: refuse } = Promise.withResolvers<string>();
  const client = createClient(WireGuardOverGRPCService, grpcTo(machineApi(options.target, options.trustedRoots)));

  async function* outgoing(signal: AbortSignal): AsyncGenerator<MessageInitShape<typeof PeerPacketSchema>> {
    for (;;) {
      for (let packet = queue.shift(); packet; packet = queue.shift()) yield { Data: packet };
      wake = Promise.withResolvers<void>();
      await abortable(wake.promise, signal);
    }
  }
  const run = async () => {
    while (!stopped.signal.aborted) {
      const call = new AbortController();
      const signal = AbortSignal.any([stopped.signal, call.signal]);
      try {
        for await (const packet of client.createStream(outgoing(signal), {
          signal,
          headers: { "x-siderolink-ipv6-addr": options.address },
        })) {
          options.receive(packet.Data);
        }
      } catch (error) {
        if (stopped.signal.aborted) return;
        const { code, rawMessage } = ConnectError.from(error);
        if (
          (code === Code.Aborted && rawMessage === "peer replaced") ||
          (code === Code.PermissionDenied && rawMessage === "peer not allowed")
        ) {
          refuse(rawMessage);
          return;
        }
        note(`wireguard over gRPC stream failed: ${messageOf(error)}`);
      } finally {
        call.abort(new Error("stream ended"));
      }
      await sleep(options.retry, clock, stopped.signal).catch(() => {});
    }
  };
  run().catch((error) => note(messageOf(error)));
  return {
    send(datagram) {
      queue.push(Uint8Array.from(datagram));
      if (queue.length > queueLimit) queue.shift();
      wake.resolve();
    },
    refused,
    close: () => stopped.abort(new Error("tunnel closed")),
  };
}
