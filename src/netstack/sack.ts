import { since } from "./segment.ts";

const MAX_RANGES = 256;

/** What the peer says it holds above the cumulative acknowledgement: the sender's scoreboard (RFC 6675). */
export class Scoreboard {
  /** Pairs of edges, ascending, disjoint. */
  #edges: number[] = [];
  /** Bytes the peer holds. */
  bytes = 0;

  get empty(): boolean {
    return this.#edges.length === 0;
  }

  /** Adds the range [left, right). True when it told something new. At most 256 ranges are kept. */
  add(left: number, right: number): boolean {
    const edges = this.#edges;
    let i = edges.length;
    while (i > 0 && since(edges[i - 2]!, right) > 0) i -= 2;
    // [j, i) are the ranges that touch the new one.
    let j = i;
    while (j > 0 && since(edges[j - 1]!, left) >= 0) j -= 2;
    if (j === i) {
      if (edges.length >= MAX_RANGES * 2) return false;
      edges.splice(i, 0, left, right);
      this.bytes += since(right, left);
      return true;
    }
    const from = since(edges[j]!, left) < 0 ? edges[j]! : left;
    const to = since(edges[i - 1]!, right) > 0 ? edges[i - 1]! : right;
    let held = 0;
    for (let k = j; k < i; k += 2) held += since(edges[k + 1]!, edges[k]!);
    const gained = since(to, from) - held;
    if (gained === 0) return false;
    edges.splice(j, i - j, from, to);
    this.bytes += gained;
    return true;
  }

  /** Forgets what lies below the cumulative acknowledgement `una`. */
  acknowledge(una: number): void {
    const edges = this.#edges;
    while (edges.length > 0 && since(edges[1]!, una) <= 0) {
      this.bytes -= since(edges[1]!, edges[0]!);
      edges.splice(0, 2);
    }
    if (edges.length > 0 && since(edges[0]!, una) < 0) {
      this.bytes -= since(una, edges[0]!);
      edges[0] = una;
    }
  }

  clear(): void {
    this.#edges = [];
    this.bytes = 0;
  }

  /** Whether the peer claims to hold the very byte it did not acknowledge: it threw data away (RFC 2018 section 8). */
  reneged(una: number): boolean {
    return this.#edges.length > 0 && since(this.#edges[0]!, una) <= 0;
  }

  /**
   * Everything unreported below the returned edge counts as lost (RFC 6675 IsLost: more than `bytes`, or as many as
   * `ranges`, are reported above it). `una` when nothing is.
   */
  lostBelow(una: number, bytes: number, ranges: number): number {
    let above = 0;
    for (let i = this.#edges.length - 2, count = 1; i >= 0; i -= 2, count++) {
      above += since(this.#edges[i + 1]!, this.#edges[i]!);
      if (above > bytes || count >= ranges) return this.#edges[i]!;
    }
    return una;
  }

  /** The first unreported range that starts at or after `from` and below `end`; undefined when there is none. */
  hole(from: number, end: number): [start: number, end: number] | undefined {
    let at = from;
    for (let i = 0; i < this.#edges.length; i += 2) {
      if (since(this.#edges[i]!, at) > 0) {
        const stop = since(this.#edges[i]!, end) < 0 ? this.#edges[i]! : end;
        return since(stop, at) > 0 ? [at, stop] : undefined;
      }
      if (since(this.#edges[i + 1]!, at) > 0) at = this.#edges[i + 1]!;
    }
    return since(end, at) > 0 ? [at, end] : undefined;
  }

  /** Unreported bytes in [from, end). */
  unreported(from: number, end: number): number {
    let total = since(end, from);
    if (total <= 0) return 0;
    for (let i = 0; i < this.#edges.length; i += 2) {
      const left = since(this.#edges[i]!, from) > 0 ? this.#edges[i]! : from;
      const right = since(this.#edges[i + 1]!, end) < 0 ? this.#edges[i + 1]! : end;
      if (since(right, left) > 0) total -= since(right, left);
    }
    return total;
  }
}
