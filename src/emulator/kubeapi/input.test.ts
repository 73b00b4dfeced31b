import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "#lib/clock.ts";
import { readBody } from "./body.ts";
import { resourcesOf } from "./catalog.ts";
import { fieldsOf, skeletonOf } from "./managed-fields.ts";
import { type KubeObject, KubeObjects } from "./objects.ts";
import { applyPatch, jsonPatch, mergePatch, strategicMerge } from "./patch.ts";
import { decodeProtobuf } from "./protobuf.ts";
import { parseTarget } from "./request.ts";
import { fieldSelector, labelSelector } from "./selectors.ts";
import { KubeError } from "./status.ts";

/** What it answers, or the KubeError that it refuses with. Anything else is thrown on. */
function answer<T>(work: () => T): T | KubeError {
  try {
    return work();
  } catch (error) {
    if (error instanceof KubeError && error.status < 500) return error;
    throw error;
  }
}
const refused = (work: () => unknown, reason: RegExp) => {
  const result = answer(work);
  assert.ok(result instanceof KubeError, JSON.stringify(result));
  assert.match(result.message, reason);
};
/** A request of either server is a stream with headers. */
const request = (type: string, ...chunks: (string | Uint8Array)[]) =>
  Object.assign(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), {
    headers: { "content-type": type },
  }) as unknown as IncomingMessage;
const dictionary = <T>(key: fc.Arbitrary<string>, value: fc.Arbitrary<T>) =>
  fc.dictionary(key, value, { noNullPrototype: true });
const json = fc.jsonValue({ maxDepth: 3 });
const object = (labels: Record<string, string>): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "x", labels },
});

test("bodies: JSON, YAML, nothing; too much and nonsense are refused", async () => {
  assert.deepEqual(await readBody(request("application/json", '{"a":', "1}")), { a: 1 });
  assert.deepEqual(await readBody(request("application/yaml", "a: [1]")), { a: [1] });
  assert.deepEqual(await readBody(request("application/json")), {});
  const status = (code: number) => (error: unknown) => error instanceof KubeError && error.status === code;
  await assert.rejects(readBody(request("application/json", "{")), status(400));
  await assert.rejects(readBody(request("application/yaml", "a: [")), status(400));
  await assert.rejects(readBody(request("application/yaml", "[".repeat(100_000))), status(400));
  await assert.rejects(readBody(request("application/cbor", "x")), status(415));
  await assert.rejects(readBody(request("application/json", " ".repeat(2 << 20), " ".repeat(2 << 20))), status(413));
});

test("any body is a value or refused", async () => {
  const type = fc.constantFrom("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "");
  await fc.assert(
    fc.asyncProperty(type, fc.uint8Array({ maxLength: 200 }), async (kind, bytes) => {
      await readBody(request(kind, bytes)).catch((error) =>
        assert.ok(error instanceof KubeError && error.status < 500),
      );
    }),
  );
});

test("any bytes after the magic of the binary form are an object or refused", () => {
  const kinds = ["ConfigMap", "Secret", "Pod", "Deployment", "Role", "Job", "Service"];
  const envelope = (kind: string, raw: Uint8Array) => {
    const field = (number: number, bytes: Uint8Array) =>
      Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
    return Buffer.concat([Buffer.from("k8s\0"), field(1, field(2, Buffer.from(kind))), field(2, raw)]);
  };
  const bytes = fc.uint8Array({ maxLength: 100 });
  fc.assert(fc.property(bytes, (raw) => void answer(() => decodeProtobuf(Buffer.concat([Buffer.from("k8s\0"), raw])))));
  fc.assert(
    fc.property(
      fc.constantFrom(...kinds),
      bytes,
      (kind, raw) => void answer(() => decodeProtobuf(envelope(kind, raw))),
    ),
  );
});

test("merge patches follow RFC 7386 and leave their target alone", () => {
  assert.deepEqual(mergePatch({ a: "b", c: { d: "e", f: "g" } }, { a: "z", c: { f: null } }), {
    a: "z",
    c: { d: "e" },
  });
  assert.deepEqual(mergePatch({ a: [{ b: "c" }] }, { a: [1] }), { a: [1] });
  fc.assert(
    fc.property(json, json, (target, patch) => {
      const before = structuredClone(target);
      const once = mergePatch(target, patch);
      assert.deepEqual(target, before);
      assert.deepEqual(mergePatch(once, patch), once, "a second time changes nothing");
    }),
  );
});

test("JSON patches follow RFC 6902, leave their target alone, and are refused where they do not fit", () => {
  const target = { a: { b: [1, 2] }, "c/d": 1 };
  assert.deepEqual(
    jsonPatch(target, [
      { op: "test", path: "/a/b/0", value: 1 },
      { op: "add", path: "/a/b/-", value: 3 },
      { op: "move", from: "/c~1d", path: "/a/c" },
      { op: "replace", path: "/a/b/0", value: 0 },
      { op: "remove", path: "/a/b/1" },
    ]),
    { a: { b: [0, 3], c: 1 } },
  );
  refused(() => jsonPatch(target, { op: "add" }), /list of operations/);
  refused(() => jsonPatch(target, [{ op: "add", path: "a" }]), /malformed json pointer/);
  refused(() => jsonPatch(target, [{ op: "replace", path: "/x", value: 1 }]), /does not exist/);
  refused(() => jsonPatch(target, [{ op: "remove", path: "/a/b/9" }]), /does not exist/);
  refused(() => jsonPatch(target, [{ op: "test", path: "/a/b/0", value: 2 }]), /testing path/);
  const pointer = fc.oneof(
    fc.constantFrom("", "/", "/a", "/a/b", "/a/b/0", "/a/b/-", "/__proto__/x", "/a/b/length"),
    fc.string(),
  );
  const operation = fc.record({
    op: fc.constantFrom("add", "remove", "replace", "move", "copy", "test", "x"),
    path: pointer,
    from: pointer,
    value: json,
  });
  fc.assert(
    fc.property(json, fc.oneof(fc.array(operation, { maxLength: 5 }), json), (document, patch) => {
      const before = structuredClone(document);
      answer(() => jsonPatch(document, patch));
      assert.deepEqual(document, before);
      assert.equal(({} as { x?: unknown }).x, undefined);
    }),
  );
});

test("strategic merges know lists by their key", () => {
  const pod = {
    containers: [
      { name: "a", image: "1" },
      { name: "b", image: "1" },
    ],
    finalizers: ["x"],
    args: ["1"],
  };
  assert.deepEqual(
    strategicMerge(pod, {
      containers: [
        { name: "b", image: "2" },
        { name: "a", $patch: "delete" },
      ],
      finalizers: ["y"],
      args: ["2"],
    }),
    {
      containers: [{ name: "b", image: "2" }],
      finalizers: ["x", "y"],
      args: ["2"],
    },
  );
  const key = fc.constantFrom(
    "containers",
    "ports",
    "$patch",
    "$retainKeys",
    "$deleteFromPrimitiveList/args",
    "args",
    "name",
    "__proto__",
  );
  const value = fc.oneof(
    json,
    fc.array(dictionary(key, fc.oneof(json, fc.constantFrom("delete", "replace")))),
    fc.constantFrom("delete", "replace"),
  );
  fc.assert(
    fc.property(dictionary(key, value), dictionary(key, value), (target, patch) => {
      const before = structuredClone(target);
      answer(() => strategicMerge(target, patch));
      assert.deepEqual(target, before);
    }),
  );
});

test("server-side apply: what the manager no longer applies goes, what others set stays", () => {
  const first = { data: { a: "1", b: "2" } };
  const stored = { data: { a: "1", b: "2", c: "of another" } };
  const applied = { data: { a: "3" } };
  const previous = skeletonOf(fieldsOf(first));
  assert.deepEqual(applyPatch(stored, applied, previous), { data: { a: "3", c: "of another" } });
  fc.assert(
    fc.property(dictionary(fc.string(), json), json, dictionary(fc.string(), json), (target, fields, patch) => {
      answer(() => applyPatch(target, patch, skeletonOf(fields)));
      answer(() => skeletonOf(fieldsOf(patch)));
    }),
  );
});

test("selectors select", () => {
  const yes = (selector: string, labels: Record<string, string>) =>
    assert.ok(labelSelector(selector)(object(labels)), selector);
  const no = (selector: string, labels: Record<string, string>) =>
    assert.ok(!labelSelector(selector)(object(labels)), selector);
  yes("", {});
  yes("a=1,b!=2,c,!d,e in (x, y),f notin (z)", { a: "1", c: "", e: "y" });
  no("a in (1)", {});
  yes("a notin (1)", {});
  no("a==1", { a: "2" });
  no("constructor", {});
  yes("!toString", {});
  refused(() => labelSelector("a in 1"), /unable to parse/);
  refused(() => labelSelector("a=(b"), /unable to parse/);
  assert.ok(fieldSelector("metadata.name=x,spec.nodeName!=n")(object({})));
  assert.ok(!fieldSelector("metadata.name!=x")(object({})));
  refused(() => fieldSelector("metadata.name"), /invalid selector/);
});

test("any selector is one or refused, at once", () => {
  const piece = fc.constantFrom("a", "=", "!=", "!", ",", "(", ")", " in ", " notin ", ".", "/", "==", " ");
  const text = fc.oneof(
    fc.string(),
    fc.array(piece).map((list) => list.join("")),
  );
  fc.assert(
    fc.property(text, (selector) => {
      const labels = answer(() => labelSelector(selector));
      if (typeof labels === "function") labels(object({ a: "1" }));
      const fields = answer(() => fieldSelector(selector));
      if (typeof fields === "function") fields(object({ a: "1" }));
    }),
  );
  // As long as a request's head may be.
  for (const long of [",".repeat(16_000), "a in (".repeat(2600), " ".repeat(16_000), "a!".repeat(8000)]) {
    const started = performance.now();
    answer(() => labelSelector(long));
    answer(() => fieldSelector(long));
    assert.ok(performance.now() - started < 3000, long.slice(0, 10));
  }
});

test("any path means a resource or nothing", () => {
  const resources = resourcesOf(new KubeObjects(systemClock, () => {}));
  const part = fc.oneof(
    fc.constantFrom(
      "api",
      "apis",
      "v1",
      "apps",
      "namespaces",
      "default",
      "pods",
      "deployments",
      "watch",
      "",
      "%",
      "%2f",
      "..",
    ),
    fc.string(),
  );
  fc.assert(fc.property(fc.array(part), (parts) => void parseTarget(`/${parts.join("/")}`, resources)));
  const target = parseTarget("/apis/apps/v1/namespaces/default/deployments/web/scale", resources);
  assert.deepEqual(
    [target?.resource.kind, target?.namespace, target?.name, target?.subresource],
    ["Deployment", "default", "web", "scale"],
  );
});
