import type { Metadata } from "./resource.ts";

/** One condition on a label, as COSI's LabelTerm: `exists` needs no value; `lt`/`lte` compare text, `…Numeric` numbers with unit. */
export interface LabelTerm {
  readonly key: string;
  readonly op: "exists" | "equal" | "in" | "lt" | "lte" | "ltNumeric" | "lteNumeric";
  readonly values?: readonly string[];
  /** True turns the answer round. */
  readonly invert?: boolean;
}

/** Selects resources: every term of one of the `labels` groups must hold (groups are alternatives), and the id must match. */
export interface Query {
  readonly labels?: readonly (readonly LabelTerm[])[];
  readonly id?: RegExp;
}

/** Shorthand: all these labels have these values. */
export function labelled(labels: Readonly<Record<string, string>>): Query {
  return { labels: [Object.entries(labels).map(([key, value]) => ({ key, op: "equal", values: [value] }) as const)] };
}

/** Whether a resource is selected. An empty query selects all. */
export function matches(query: Query | undefined, metadata: Metadata): boolean {
  if (!query) return true;
  if (query.id && !query.id.test(metadata.id)) return false;
  if (!query.labels?.length) return true;
  return query.labels.some((terms) => terms.every((term) => holds(term, metadata.labels)));
}

function holds(term: LabelTerm, labels: Readonly<Record<string, string>>): boolean {
  const value = Object.hasOwn(labels, term.key) ? labels[term.key] : undefined;
  return holdsPlain(term, value) !== (term.invert ?? false);
}

function holdsPlain(term: LabelTerm, value: string | undefined): boolean {
  if (value === undefined) return false;
  const first = term.values?.[0] ?? "";
  switch (term.op) {
    case "exists":
      return true;
    case "equal":
      return value === first;
    case "in":
      return term.values?.includes(value) ?? false;
    case "lt":
      return value < first;
    case "lte":
      return value <= first;
    case "ltNumeric":
      return compareNumeric(value, first, (a, b) => a < b);
    case "lteNumeric":
      return compareNumeric(value, first, (a, b) => a <= b);
  }
}

const units: Record<string, number> = { "": 1 };
for (const [index, letter] of ["k", "m", "g", "t", "p"].entries()) {
  units[letter] = 1000 ** (index + 1);
  units[`${letter}b`] = 1000 ** (index + 1);
  units[`${letter}i`] = 1024 ** (index + 1);
  units[`${letter}ib`] = 1024 ** (index + 1);
}

/** `16GiB`, `4`, `1.5 TB` as numbers; undefined for anything else. */
function numeric(text: string): number | undefined {
  const match = /^(-?\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = units[match?.[2]?.toLowerCase() ?? "?"];
  return match && unit !== undefined ? Number(match[1]) * unit : undefined;
}

function compareNumeric(a: string, b: string, test: (a: number, b: number) => boolean): boolean {
  const left = numeric(a);
  const right = numeric(b);
  return left !== undefined && right !== undefined && test(left, right);
}
