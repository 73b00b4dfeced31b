/** Bytes of an IPv6 header without extensions. */
export const IPV6_HEADER = 40;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_ICMPV6 = 58;

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION = 60;
const MAX_EXTENSIONS = 8;

/** Where the upper-layer bytes of a packet lie. */
export interface Upper {
  protocol: number;
  start: number;
  /** End by the header's payload length; the packet may be longer (link padding). */
  end: number;
}

/**
 * Finds the upper layer of an IPv6 packet (RFC 8200): hop-by-hop, routing and destination options are skipped, at most
 * eight; a fragment is refused unless it is a whole packet (RFC 6946), for nothing on this link fragments. Undefined for
 * whatever is not a well-formed IPv6 packet.
 */
export function parseIPv6(packet: Uint8Array): Upper | undefined {
  if (packet.length < IPV6_HEADER || packet[0]! >> 4 !== 6) return undefined;
  const end = IPV6_HEADER + ((packet[4]! << 8) | packet[5]!);
  if (end > packet.length) return undefined;
  let protocol = packet[6]!;
  let start = IPV6_HEADER;
  for (let i = 0; i <= MAX_EXTENSIONS; i++) {
    if (protocol !== HOP_BY_HOP && protocol !== ROUTING && protocol !== DESTINATION && protocol !== FRAGMENT)
      return { protocol, start, end };
    if (start + 8 > end) return undefined;
    // A routing header with segments left wants forwarding, which a host does not do.
    if (protocol === ROUTING && packet[start + 3] !== 0) return undefined;
    if (protocol === FRAGMENT && (packet[start + 2] !== 0 || (packet[start + 3]! & 0xf9) !== 0)) return undefined;
    const length = protocol === FRAGMENT ? 8 : (packet[start + 1]! + 1) * 8;
    protocol = packet[start]!;
    start += length;
    if (start > end) return undefined;
  }
  return undefined;
}

/** Writes the fixed header for `packet`, whose whole length after 40 bytes is payload. Hop limit 64. */
export function writeIPv6(packet: Uint8Array, protocol: number, source: Uint8Array, destination: Uint8Array): void {
  const length = packet.length - IPV6_HEADER;
  packet[0] = 0x60;
  packet[1] = 0;
  packet[2] = 0;
  packet[3] = 0;
  packet[4] = length >> 8;
  packet[5] = length;
  packet[6] = protocol;
  packet[7] = 64;
  for (let i = 0; i < 16; i++) {
    packet[8 + i] = source[i]!;
    packet[24 + i] = destination[i]!;
  }
}
