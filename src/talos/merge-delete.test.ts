import assert from "node:assert/strict";
import { test } from "node:test";
import { IchorError } from "#lib/errors.ts";
import { type ConfigDocument, parseConfig } from "./document.ts";
import { mergeDocuments } from "./merge.ts";

// Against stock talosctl: test/interop/machine-config.test.ts. Here is what holds without it.

const read = (text: string) => parseConfig(text).map(({ document }) => document);
const merged = (base: string, patch: string): ConfigDocument[] => mergeDocuments(read(base), read(patch));
const refuses = (base: string, patch: string, words: RegExp) =>
  assert.throws(
    () => merged(base, patch),
    (error) => error instanceof IchorError && error.code === "invalid_argument" && words.test(error.message),
  );

test("a mark takes out a field, a key, an item, a document, and leaves no trace of itself", () => {
  const base =
    "machine:\n  env: {a: '1', b: '2'}\n  time: {disabled: true}\n  kernel: {modules: [{name: x}, {name: y}]}\n---\napiVersion: v1alpha1\nkind: OOMConfig\n";
  const patch =
    "machine:\n  env: {b: {$patch: delete}}\n  time: {$patch: delete}\n  kernel: {modules: [{name: x, $patch: delete}, {name: z}]}\n---\napiVersion: v1alpha1\nkind: OOMConfig\n$patch: delete\n";
  assert.deepEqual(merged(base, patch), [
    { machine: { env: { a: "1" }, kernel: { modules: [{ name: "y" }, { name: "z" }] } } },
  ]);
});

test("arguments of components can be taken out", () => {
  const patch = "cluster: {apiServer: {extraArgs: {v: {$patch: delete}, x: '2'}}}\n";
  assert.deepEqual(merged("cluster: {apiServer: {extraArgs: {v: '1', x: '1'}}}\n", patch), [
    { cluster: { apiServer: { extraArgs: { x: "2" } } } },
  ]);
});

test("what is marked has to be there", () => {
  const base = "machine: {sysctls: {a: '1'}, kernel: {modules: [{name: x}]}}\n";
  refuses(base, "machine: {sysctls: {b: {$patch: delete}}}\n", /machine\.sysctls\.b/);
  refuses(base, "machine: {time: {servers: {$patch: delete}}}\n", /machine\.time\.servers/);
  refuses(base, "machine: {kernel: {modules: [{name: q, $patch: delete}]}}\n", /name: q/);
  refuses(base, "apiVersion: v1alpha1\nkind: OOMConfig\n$patch: delete\n", /OOMConfig/);
  refuses(base, "$patch: delete\n", /main document/);
  // A field of Talos that is not set is none that is missing.
  assert.deepEqual(merged(base, "machine: {files: {$patch: delete}}\n"), read(base));
});

test("inside an item of a list a mark has no place, and a list needs a name for what goes", () => {
  const base = "machine: {network: {interfaces: [{interface: eth0, mtu: 1}]}}\n";
  refuses(base, "machine: {network: {interfaces: [{interface: eth0, mtu: {$patch: delete}}]}}\n", /inside an item/);
  refuses(base, "machine: {network: {interfaces: [{$patch: delete}]}}\n", /names the item/);
});

test("a patch holds a document once, but may delete one and write it anew", () => {
  const link = "apiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\n";
  refuses(link, `${link}mtu: 1\n---\n${link}mtu: 2\n`, /twice/);
  assert.deepEqual(
    merged(`${link}mtu: 1\nup: true\n`, `${link}$patch: delete\n---\n${link}mtu: 2\n`),
    read(`${link}mtu: 2\n`),
  );
});

test("neither base nor patch is changed", () => {
  const [base, patch] = [read("machine: {env: {a: '1'}}\n"), read("machine: {env: {a: {$patch: delete}, b: '1'}}\n")];
  const before = structuredClone([base, patch]);
  mergeDocuments(base, patch);
  assert.deepEqual([base, patch], before);
});
