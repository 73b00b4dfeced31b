import { upperChecksum } from "./checksum.ts";
import { IPV6_HEADER, PROTOCOL_TCP, type Upper, writeIPv6 } from "./ipv6.ts";

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

/** Bytes of a TCP header without options. */
export const TCP_HEADER = 20;
/** Bytes of the timestamp option with its padding, as every segment carries it once agreed. */
export const TIMESTAMP_OPTION = 12;

/**
 * A parsed segment. Sequence numbers are signed 32-bit integers (small integers to the engine); compare them with
 * {@link since}. `data` of the segment is `packet[start, end)`.
 */
export interface Segment {
  packet: Uint8Array;
  sourcePort: number;
  targetPort: number;
  seq: number;
  ack: number;
  flags: number;
  /** As on the wire, unscaled. */
  window: number;
  start: number;
  end: number;
  /** 0 when the option is absent. */
  mss: number;
  /** -1 when the option is absent; at most 14. */
  scale: number;
  sackPermitted: boolean;
  timestamps: boolean;
  tsval: number;
  tsecr: number;
  /** Pairs of left and right edge, in the order of the wire; undefined when absent. */
  sack: number[] | undefined;
}

/** How far `a` lies behind `b` in sequence space: negative when `a` is before `b`. */
export const since = (a: number, b: number): number => (a - b) | 0;

/** Parses and verifies a segment (RFC 9293 3.1, 7323, 2018). Undefined when it is malformed or its checksum is wrong. */
export function parseSegment(packet: Uint8Array, { start, end }: Upper): Segment | undefined {
  if (end - start < TCP_HEADER) return undefined;
  const data = start + (packet[start + 12]! >> 4) * 4;
  if (data < start + TCP_HEADER || data > end) return undefined;
  if (upperChecksum(packet, start, end, PROTOCOL_TCP) !== 0) return undefined;
  const segment: Segment = {
    packet,
    sourcePort: (packet[start]! << 8) | packet[start + 1]!,
    targetPort: (packet[start + 2]! << 8) | packet[start + 3]!,
    seq: word(packet, start + 4),
    ack: word(packet, start + 8),
    flags: packet[start + 13]!,
    window: (packet[start + 14]! << 8) | packet[start + 15]!,
    start: data,
    end,
    mss: 0,
    scale: -1,
    sackPermitted: false,
    timestamps: false,
    tsval: 0,
    tsecr: 0,
    sack: undefined,
  };
  parseOptions(segment, packet, start + TCP_HEADER, data);
  return segment;
}

function parseOptions(segment: Segment, packet: Uint8Array, from: number, end: number): void {
  for (let at = from; at < end; ) {
    const kind = packet[at]!;
    if (kind === 0) return;
    if (kind === 1) {
      at++;
      continue;
    }
    if (at + 2 > end) return;
    const length = packet[at + 1]!;
    // What follows a broken length cannot be found: the segment counts as it is, as other stacks do.
    if (length < 2 || at + length > end) return;
    if (kind === 2 && length === 4) segment.mss = (packet[at + 2]! << 8) | packet[at + 3]!;
    else if (kind === 3 && length === 3) segment.scale = Math.min(14, packet[at + 2]!);
    else if (kind === 4 && length === 2) segment.sackPermitted = true;
    else if (kind === 8 && length === 10) {
      segment.timestamps = true;
      segment.tsval = word(packet, at + 2);
      segment.tsecr = word(packet, at + 6);
    } else if (kind === 5 && length > 2 && (length - 2) % 8 === 0) {
      segment.sack = [];
      for (let i = at + 2; i < at + length; i += 4) segment.sack.push(word(packet, i));
    }
    at += length;
  }
}

/** The two ends of a connection as they stand in a packet that we send. */
export interface Path {
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
}

/** Fields of a segment to send. `options` is a multiple of 4 bytes; data is filled in by `fill`. */
export interface Outgoing {
  seq: number;
  ack: number;
  flags: number;
  window: number;
}

/**
 * Builds a whole IPv6 packet. `options` are the option bytes, `length` the number of data bytes, which `fill` writes at
 * the offset it is given, so that data is copied once, from the send buffer into the packet.
 */
export function buildSegment(
  path: Path,
  { seq, ack, flags, window }: Outgoing,
  options: readonly number[],
  length = 0,
  fill?: (packet: Buffer, at: number) => void,
): Buffer {
  const data = IPV6_HEADER + TCP_HEADER + options.length;
  const packet = Buffer.allocUnsafe(data + length);
  writeIPv6(packet, PROTOCOL_TCP, path.local, path.remote);
  packet[40] = path.localPort >> 8;
  packet[41] = path.localPort;
  packet[42] = path.remotePort >> 8;
  packet[43] = path.remotePort;
  put(packet, 44, seq);
  put(packet, 48, ack);
  packet[52] = ((TCP_HEADER + options.length) / 4) << 4;
  packet[53] = flags;
  packet[54] = window >> 8;
  packet[55] = window;
  packet[56] = 0;
  packet[57] = 0;
  packet[58] = 0;
  packet[59] = 0;
  for (let i = 0; i < options.length; i++) packet[60 + i] = options[i]!;
  fill?.(packet, data);
  const checksum = upperChecksum(packet, IPV6_HEADER, packet.length, PROTOCOL_TCP);
  packet[56] = checksum >> 8;
  packet[57] = checksum;
  return packet;
}

/** Appends a 32-bit number to option bytes. */
export function pushWord(options: number[], value: number): void {
  options.push((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}

function put(packet: Uint8Array, at: number, value: number): void {
  packet[at] = value >>> 24;
  packet[at + 1] = value >>> 16;
  packet[at + 2] = value >>> 8;
  packet[at + 3] = value;
}

const word = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
