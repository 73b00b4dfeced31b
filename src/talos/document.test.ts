import assert from "node:assert/strict";
import { test } from "node:test";
import { IchorError } from "#lib/errors.ts";
import { documentId, parseConfig, printConfig } from "./document.ts";

const read = (text: string) => parseConfig(text).map(({ document }) => document);

test("numbers that would be written in another way stay as they were written", () => {
  const text = "a: 1.10\nb: 007\nc: 12345678901234567890\nd: 1e3\ne: 1.5\nf: 7\ng: 0x10\n";
  assert.deepEqual(read(text), [{ a: "1.10", b: "007", c: "12345678901234567890", d: "1e3", e: 1.5, f: 7, g: 16 }]);
  assert.deepEqual(read(printConfig(read(text))), read(text));
});

test("file modes in octal are numbers, in the new form and the old", () => {
  assert.deepEqual(read("files: [{permissions: 0644}, {permissions: 0o600}]\n"), [
    { files: [{ permissions: 0o644 }, { permissions: 0o600 }] },
  ]);
});

test("aliases become values of their own, and merge keys merge", () => {
  const [document] = read("a: &x {k: [1]}\nb: *x\nc:\n  <<: *x\n  l: 2\n");
  assert.deepEqual(document, { a: { k: [1] }, b: { k: [1] }, c: { k: [1], l: 2 } });
  assert.notEqual(document?.a, document?.b);
  assert.doesNotMatch(printConfig([document!]), /[&*]/);
});

test("documents that multiply by aliases are refused", () => {
  const lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"];
  for (let at = 1; at < 9; at++)
    lines.push(
      `a${at}: &a${at} [${Array(10)
        .fill(`*a${at - 1}`)
        .join(", ")}]`,
    );
  assert.throws(
    () => parseConfig(lines.join("\n")),
    (error) => error instanceof IchorError && /aliases/.test(error.message),
  );
});

test("an error tells line and column; a document that is no mapping tells its line", () => {
  assert.throws(() => parseConfig("a: 1\nb: [\n"), /line \d+, column \d+/);
  assert.throws(() => parseConfig("a: 1\n---\n- x\n"), /line 3: a configuration document is a mapping/);
});

test("documents are known by version, kind and name", () => {
  assert.equal(documentId({ machine: {} }), "v1alpha1");
  assert.equal(documentId({ apiVersion: "v1alpha1", kind: "LinkConfig", name: "eth0" }), "v1alpha1/LinkConfig/eth0");
});
