import { createHash } from "node:crypto";

/** Deterministic choices from a text: the same seed is the same machine, in every process. */
export class Random {
  readonly #seed: string;
  #next = 0;

  constructor(seed: string) {
    this.#seed = seed;
  }
  /** `length` bytes, at most 32. */
  bytes(length: number): Uint8Array {
    return createHash("sha256")
      .update(`${this.#seed}/${this.#next++}`)
      .digest()
      .subarray(0, length);
  }
  /** An integer in [0, bound). */
  below(bound: number): number {
    return new DataView(this.bytes(8).slice().buffer).getUint32(0) % bound;
  }
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
  hex(length: number): string {
    return Buffer.from(this.bytes(32)).toString("hex").slice(0, length);
  }
  /** Upper-case letters and digits, as vendors print serial numbers. */
  serial(length: number): string {
    const alphabet = "0123456789ABCDEFGHJKLMNPRSTVWXYZ";
    return [...this.bytes(length)].map((byte) => alphabet[byte % alphabet.length]).join("");
  }
  /** A random (version 4) UUID. */
  uuid(): string {
    const bytes = Uint8Array.from(this.bytes(16));
    bytes[6] = (bytes[6]! & 0x0f) | 0x40;
    bytes[8] = (bytes[8]! & 0x3f) | 0x80;
    const text = Buffer.from(bytes).toString("hex");
    return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
  }
}
