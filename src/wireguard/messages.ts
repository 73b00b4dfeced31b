/** Message types and sizes (whitepaper 5.4). All integers are little endian; three reserved bytes follow the type. */
export const messageType = { initiation: 1, response: 2, cookie: 3, transport: 4 } as const;

export const initiationLength = 148;
export const responseLength = 92;
export const cookieLength = 64;
/** Type, receiver and counter before the sealed packet. */
export const transportHeader = 16;
/** Poly1305 tag. */
export const tagLength = 16;

/** Reads an index or count at an offset. */
export function readUint32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24)) >>> 0;
}

/** Writes an index or count at an offset. */
export function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}

/** Reads a counter. Counters stay below 2^53: at a million packets a second that is 285 years. Larger ones answer Infinity. */
export function readCounter(bytes: Uint8Array, offset: number): number {
  const high = readUint32(bytes, offset + 4);
  return high > 0x1fffff ? Number.POSITIVE_INFINITY : high * 2 ** 32 + readUint32(bytes, offset);
}

/** Writes a counter. */
export function writeCounter(bytes: Uint8Array, offset: number, value: number): void {
  writeUint32(bytes, offset, value % 2 ** 32);
  writeUint32(bytes, offset + 4, Math.floor(value / 2 ** 32));
}
