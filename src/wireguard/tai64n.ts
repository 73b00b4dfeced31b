let last = 0n;

/**
 * TAI64N of a wall time: 8 bytes of seconds, 4 of nanoseconds, big endian. Strictly increasing within the process, so that two
 * handshakes in one millisecond are not taken for a replay. Whitened to 16 ms like the reference does, to hide the clock's detail.
 */
export function timestamp(nowMs: number): Uint8Array {
  let nanoseconds = (BigInt(Math.floor(nowMs)) * 1_000_000n) & ~0xffffffn;
  if (nanoseconds <= last) nanoseconds = last + 1n;
  last = nanoseconds;
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64BE(0x400000000000000an + nanoseconds / 1_000_000_000n, 0);
  bytes.writeUInt32BE(Number(nanoseconds % 1_000_000_000n), 8);
  return bytes;
}
