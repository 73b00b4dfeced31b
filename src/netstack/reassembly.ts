import { since } from "./segment.ts";

/** Charged for each piece on top of its bytes: a flood of one-byte segments must not cost more than it seems. */
const OVERHEAD = 256;

interface Piece {
  seq: number;
  bytes: Uint8Array;
}

/**
 * Bytes that arrived ahead of a gap, in order and without overlap, up to a bound. The first copy of a byte wins. Ranges
 * for SACK (RFC 2018) come from here.
 */
export class Reassembly {
  readonly #pieces: Piece[] = [];
  #charged = 0;
  /** Start of the range that grew last: SACK reports it first. */
  #latest = 0;

  get empty(): boolean {
    return this.#pieces.length === 0;
  }

  /** Keeps `bytes` that start at `seq`, where not yet held; drops them when that would exceed `limit` bytes. */
  add(seq: number, bytes: Uint8Array, limit: number): void {
    const pieces = this.#pieces;
    let at = pieces.length;
    while (at > 0 && since(pieces[at - 1]!.seq, seq) > 0) at--;
    let from = seq;
    const end = (seq + bytes.length) | 0;
    const before = pieces[at - 1];
    if (before && since(before.seq + before.bytes.length, from) > 0) from = (before.seq + before.bytes.length) | 0;
    while (since(end, from) > 0) {
      const next = pieces[at];
      const stop = next && since(next.seq, end) < 0 ? next.seq : end;
      if (since(stop, from) > 0) {
        const part = bytes.subarray(since(from, seq), since(stop, seq));
        if (this.#charged + part.length + OVERHEAD > limit) return;
        this.#charged += part.length + OVERHEAD;
        pieces.splice(at++, 0, { seq: from, bytes: part });
        this.#latest = from;
      }
      if (!next || stop === end) return;
      from = (next.seq + next.bytes.length) | 0;
      at++;
    }
  }

  /** Takes what can now be delivered: calls `deliver` for each piece that continues at `next`; returns the new `next`. */
  take(next: number, deliver: (bytes: Uint8Array) => void): number {
    let at = next;
    let count = 0;
    for (const piece of this.#pieces) {
      const skip = since(at, piece.seq);
      if (skip < 0) break;
      count++;
      this.#charged -= piece.bytes.length + OVERHEAD;
      if (skip >= piece.bytes.length) continue;
      deliver(piece.bytes.subarray(skip));
      at = (piece.seq + piece.bytes.length) | 0;
    }
    if (count > 0) this.#pieces.splice(0, count);
    return at;
  }

  /** Up to `count` ranges as pairs of edges, the one that grew last first (RFC 2018 section 4). */
  ranges(count: number): number[] {
    const all: number[] = [];
    for (const { seq, bytes } of this.#pieces) {
      if (all.length > 0 && all.at(-1) === seq) all[all.length - 1] = (seq + bytes.length) | 0;
      else all.push(seq, (seq + bytes.length) | 0);
    }
    let first = 0;
    for (let i = 0; i < all.length; i += 2)
      if (since(this.#latest, all[i]!) >= 0 && since(this.#latest, all[i + 1]!) < 0) first = i;
    const result = all.slice(first, first + 2);
    for (let i = 0; i < all.length && result.length < count * 2; i += 2)
      if (i !== first) result.push(all[i]!, all[i + 1]!);
    return result;
  }
}
