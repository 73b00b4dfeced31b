import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type LabelTerm, labelled, matches, type Query } from "./query.ts";
import { keyText, newMetadata } from "./resource.ts";

const names = ["a", "b", "cluster", "__proto__", "constructor"];
const values = ["", "1", "2", "10", "4GiB", "4GB", "5 gb", "1.5TiB", "-3", "x", "y", "constructor"];
const labels = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...names), fc.constantFrom(...values)), { selector: ([name]) => name })
  .map((entries) => new Map(entries));
const term: fc.Arbitrary<LabelTerm> = fc.record(
  {
    key: fc.constantFrom(...names),
    op: fc.constantFrom("exists", "equal", "in", "lt", "lte", "ltNumeric", "lteNumeric"),
    values: fc.array(fc.constantFrom(...values), { maxLength: 3 }),
    invert: fc.boolean(),
  },
  { requiredKeys: ["key", "op"], noNullPrototype: true },
) as fc.Arbitrary<LabelTerm>;

/** Numbers with units, from a table. */
const numbers = new Map([
  ["1", 1],
  ["2", 2],
  ["10", 10],
  ["4GiB", 4 * 1024 ** 3],
  ["4GB", 4e9],
  ["5 gb", 5e9],
  ["1.5TiB", 1.5 * 1024 ** 4],
  ["-3", -3],
]);

/** The meaning of a query, as plainly as it can be said. */
function model(query: Query, id: string, of: ReadonlyMap<string, string>): boolean {
  if (query.id && !query.id.test(id)) return false;
  const groups = query.labels ?? [];
  if (groups.length === 0) return true;
  return groups.some((terms) => terms.every((one) => answer(one, of) === !one.invert));
}
function answer({ key, op, values: given = [] }: LabelTerm, of: ReadonlyMap<string, string>): boolean {
  const value = of.get(key);
  if (value === undefined) return false;
  const first = given[0] ?? "";
  const [left, right] = [numbers.get(value), numbers.get(first)];
  if (op === "exists") return true;
  if (op === "equal") return value === first;
  if (op === "in") return given.includes(value);
  if (op === "lt") return value < first;
  if (op === "lte") return !(value > first);
  if (left === undefined || right === undefined) return false;
  return op === "ltNumeric" ? left < right : left <= right;
}

const metadata = (id: string, of: ReadonlyMap<string, string>) =>
  newMetadata({ namespace: "n", type: "T", id }, { labels: Object.fromEntries(of) });

test("queries select what the plain model selects, whatever the names of labels", () => {
  fc.assert(
    fc.property(
      labels,
      fc.array(fc.array(term, { maxLength: 4 }), { maxLength: 3 }),
      fc.constantFrom("one", "two", ""),
      (of, groups, id) => {
        for (const pattern of [undefined, /^o/, /two/]) {
          const query: Query = { labels: groups, ...(pattern ? { id: pattern } : {}) };
          assert.equal(matches(query, metadata(id, of)), model(query, id, of));
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test("laws: nothing selects all, inversion turns round, alternatives add, terms take away", () => {
  fc.assert(
    fc.property(labels, term, term, (of, one, two) => {
      const is = (query: Query | undefined) => matches(query, metadata("x", of));
      assert.equal(is(undefined) && is({}) && is({ labels: [] }) && is({ labels: [[]] }), true);
      assert.equal(is({ labels: [[{ ...one, invert: !one.invert }]] }), !is({ labels: [[one]] }));
      assert.equal(is({ labels: [[one], [two]] }), is({ labels: [[one]] }) || is({ labels: [[two]] }));
      assert.equal(is({ labels: [[one, two]] }), is({ labels: [[one]] }) && is({ labels: [[two]] }));
    }),
  );
});

test("labelled: all of them, and no other values", () => {
  fc.assert(
    fc.property(labels, labels, (of, wanted) => {
      const expected = [...wanted].every(([name, value]) => of.get(name) === value);
      assert.equal(matches(labelled(Object.fromEntries(wanted)), metadata("x", of)), expected);
    }),
  );
});

test("numbers: units of ten and of two, in any case; what is none compares with nothing", () => {
  const less = (value: string, than: string) =>
    matches({ labels: [[{ key: "a", op: "ltNumeric", values: [than] }]] }, metadata("x", new Map([["a", value]])));
  const ascending = [
    "-1",
    "0",
    "0.5",
    "1",
    "999",
    "1k",
    "1Ki",
    "900Ki",
    "1mb",
    "1Mi",
    "1GB",
    "1gib",
    "1T",
    "1TiB",
    "1P",
    "1PiB",
  ];
  for (const [index, value] of ascending.entries())
    for (const [other, than] of ascending.entries())
      assert.equal(less(value, than), index < other, `${value} < ${than}`);
  for (const junk of ["", "x", "1 2", "1xb", "--1", "1.", ".5", "0x10", "1e3", "Infinity", "NaN", "1constructor"]) {
    assert.equal(less(junk, "5"), false, junk);
    assert.equal(less("1", junk), false, junk);
  }
});

test("texts of keys name one resource", () => {
  assert.equal(keyText({ namespace: "n", type: "T", id: "a/b" }), "n/T/a/b");
  const made = newMetadata({ namespace: "n", type: "T", id: "x" });
  assert.deepEqual([made.version, made.phase, made.owner, made.finalizers], [0, "running", "", []]);
});
