/**
 * One's complement sum of 16-bit big-endian words (RFC 1071) over `bytes[start, end)`, added to `initial`. Not folded: the
 * result stays exact below 2^53, so sums of parts can be added up; an odd last byte is padded with zero.
 */
export function sum(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  let total = initial;
  let i = start;
  // Eight words at a time into a 32-bit integer: stays a small integer for the compiler, and the loop is cheap.
  for (const stop = end - 15; i < stop; i += 16) {
    total +=
      ((bytes[i]! +
        bytes[i + 2]! +
        bytes[i + 4]! +
        bytes[i + 6]! +
        bytes[i + 8]! +
        bytes[i + 10]! +
        bytes[i + 12]! +
        bytes[i + 14]!) <<
        8) +
      bytes[i + 1]! +
      bytes[i + 3]! +
      bytes[i + 5]! +
      bytes[i + 7]! +
      bytes[i + 9]! +
      bytes[i + 11]! +
      bytes[i + 13]! +
      bytes[i + 15]!;
  }
  for (; i + 1 < end; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  if (i < end) total += bytes[i]! << 8;
  return total;
}

/** Folds a {@link sum} to the 16-bit checksum that goes into a header (0 when a packet that carries its checksum is intact). */
export function fold(total: number): number {
  let value = total;
  while (value > 0xffff) value = (value % 0x10000) + Math.floor(value / 0x10000);
  return ~value & 0xffff;
}

/**
 * Checksum over the IPv6 pseudo-header (RFC 8200 8.1) and the upper-layer bytes `packet[start, end)`. The addresses are
 * read from the IPv6 header at the start of `packet`.
 */
export function upperChecksum(packet: Uint8Array, start: number, end: number, protocol: number): number {
  return fold(sum(packet, start, end, sum(packet, 8, 40, end - start + protocol)));
}
