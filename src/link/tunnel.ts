import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { PeerPacketSchema, type WireGuardOverGRPCService } from "#gen/sidero/link/link_pb.ts";
import type { LinkEngine } from "./engine.ts";
import type { Peers } from "./peers.ts";

/** Datagrams for one machine that wait for its stream; the oldest goes first, as a full UDP queue would do. */
const longestQueue = 256;
const header = "x-siderolink-ipv6-addr";

/** WireGuard datagrams in a gRPC stream, for sites where UDP is blocked (protocols.md 3). */
export class Tunnels {
  readonly #engine: LinkEngine;
  readonly #peers: Peers;
  readonly #open = new Map<string, AbortController>();

  constructor(engine: LinkEngine, peers: Peers) {
    this.#engine = engine;
    this.#peers = peers;
  }

  /** The service. Clients compare codes and messages of its errors as texts (trap 3). */
  readonly service: ServiceImpl<typeof WireGuardOverGRPCService> = {
    createStream: (packets, context) => this.#carry(packets, context.requestHeader.get(header) ?? "", context.signal),
  };

  async *#carry(packets: AsyncIterable<{ Data: Uint8Array }>, id: string, signal: AbortSignal) {
    if (!/^\[[0-9a-f:]+\]:\d{1,5}$/i.test(id)) throw new ConnectError(`missing or malformed ${header}`, Code.Unknown);
    if (!this.#peers.allowsTunnel(id)) throw new ConnectError("peer not allowed", Code.PermissionDenied);
    this.#open.get(id)?.abort();
    const replaced = new AbortController();
    this.#open.set(id, replaced);
    const queue: Uint8Array[] = [];
    let wake = () => {};
    const link = this.#engine.attachTunnel(id, (datagram) => {
      if (queue.length >= longestQueue) queue.shift();
      // The engine reuses its buffers; what waits must be its own.
      queue.push(Uint8Array.from(datagram));
      wake();
    });
    let ended = false;
    const end = () => {
      ended = true;
      wake();
    };
    signal.addEventListener("abort", end, { once: true });
    replaced.signal.addEventListener("abort", end, { once: true });
    void receive(packets, link).then(end, end);
    try {
      while (!ended) {
        const datagram = queue.shift();
        if (datagram) yield create(PeerPacketSchema, { Data: datagram });
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (ended || queue.length > 0) resolve();
          });
      }
      if (replaced.signal.aborted) throw new ConnectError("peer replaced", Code.Aborted);
    } finally {
      link.detach();
      if (this.#open.get(id) === replaced) this.#open.delete(id);
    }
  }
}

async function receive(
  packets: AsyncIterable<{ Data: Uint8Array }>,
  link: { receive(datagram: Uint8Array): void },
): Promise<void> {
  for await (const { Data } of packets) link.receive(Data);
}
