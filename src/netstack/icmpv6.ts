import { upperChecksum } from "./checksum.ts";
import { IPV6_HEADER, PROTOCOL_ICMPV6, PROTOCOL_TCP, parseIPv6, type Upper, writeIPv6 } from "./ipv6.ts";

const UNREACHABLE = 1;
const TOO_BIG = 2;
const ECHO_REQUEST = 128;
const ECHO_REPLY = 129;

/** What a checked ICMPv6 message (RFC 4443) says to a host. */
export type IcmpMessage =
  | { kind: "echo" }
  /** An error about a TCP segment that we are said to have sent; `sequence` tells whether we did. */
  | {
      kind: "unreachable" | "too-big";
      mtu: number;
      remote: Uint8Array;
      local: Uint8Array;
      ports: number;
      sequence: number;
    };

/** Reads a message; undefined when it is malformed, fails its checksum, or is of no interest to a host. */
export function parseIcmp(packet: Uint8Array, { start, end }: Upper): IcmpMessage | undefined {
  if (end - start < 8 || upperChecksum(packet, start, end, PROTOCOL_ICMPV6) !== 0) return undefined;
  const type = packet[start]!;
  if (type === ECHO_REQUEST) return { kind: "echo" };
  if (type !== UNREACHABLE && type !== TOO_BIG) return undefined;
  // The quoted packet is cut short by design: its own length must not be held against it.
  const quoted = packet.slice(start + 8, end);
  if (quoted.length < IPV6_HEADER + 8) return undefined;
  const length = quoted.length - IPV6_HEADER;
  quoted[4] = length >> 8;
  quoted[5] = length;
  const upper = parseIPv6(quoted);
  if (!upper || upper.protocol !== PROTOCOL_TCP || upper.end - upper.start < 8) return undefined;
  const at = upper.start;
  return {
    kind: type === TOO_BIG ? "too-big" : "unreachable",
    mtu: word(packet, start + 4) >>> 0,
    local: quoted.subarray(8, 24),
    remote: quoted.subarray(24, 40),
    ports: word(quoted, at) >>> 0,
    sequence: word(quoted, at + 4),
  };
}

/** The answer to an echo request: the same identifier, number and data, back to who asked. */
export function echoReply(packet: Uint8Array, { start, end }: Upper): Uint8Array {
  const reply = Buffer.allocUnsafe(IPV6_HEADER + end - start);
  reply.set(packet.subarray(start, end), IPV6_HEADER);
  writeIPv6(reply, PROTOCOL_ICMPV6, packet.subarray(24, 40), packet.subarray(8, 24));
  reply[IPV6_HEADER] = ECHO_REPLY;
  reply[IPV6_HEADER + 1] = 0;
  reply.writeUInt16BE(0, IPV6_HEADER + 2);
  reply.writeUInt16BE(upperChecksum(reply, IPV6_HEADER, reply.length, PROTOCOL_ICMPV6), IPV6_HEADER + 2);
  return reply;
}

const word = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
