import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { printConfig } from "#talos/document.ts";
import { generateConfig } from "#talos/generate.ts";
import { makeSecrets } from "#talos/secrets.ts";
import { parseDocuments } from "./documents.ts";
import { validateConfig } from "./validate.ts";
import { viewConfig } from "./view.ts";

const context = { maintenance: true, installed: false, minor: 13, disks: ["/dev/sda"] };
/** What a machine does with bytes: takes them, or says why not. Anything else is thrown on. */
function take(bytes: Uint8Array): string | undefined {
  try {
    validateConfig(viewConfig(bytes), context);
    return undefined;
  } catch (error) {
    if (error instanceof IchorError && error.code === "invalid_argument") return error.message;
    throw error;
  }
}
const refused = (text: string, reason: RegExp) => assert.match(take(Buffer.from(text)) ?? "taken", reason);

const secrets = await makeSecrets(systemClock);
const whole = printConfig(
  generateConfig({
    contract: "1.13",
    clusterName: "test",
    endpoint: "https://[fd00::1]:6443",
    secrets,
    machineType: "controlplane",
    kubernetesVersion: "1.36.1",
    installDisk: "/dev/sda",
    installImage: "ghcr.io/siderolabs/installer:v1.13.9",
  }),
);

test("a generated configuration is taken, and read", () => {
  assert.equal(take(Buffer.from(whole)), undefined);
  const view = viewConfig(Buffer.from(whole));
  assert.ok(view.complete && view.controlPlane);
  assert.equal(view.endpoint, "https://[fd00::1]:6443");
  assert.equal(view.aggregator.crt, secrets.aggregator.crt);
  assert.equal(view.serviceAccountKey, secrets.serviceAccountKey);
});

test("what Talos refuses is refused with the place", () => {
  refused("", /no configuration documents/);
  refused("machine: [", /yaml: line \d/);
  refused("- a\n", /not a mapping/);
  refused("a: 1\n", /missing kind/);
  refused("apiVersion: v1alpha1\nkind: NoSuch\n", /"NoSuch" "v1alpha1": not registered/);
  refused("apiVersion: {toString: 1}\nkind: LinkConfig\n", /not registered/);
  refused("version: {toString: 1}\nmachine: {}\n", /not registered/);
  refused("version: v1alpha1\nmachine: {tpye: worker}\n", /unknown keys.*\nmachine\.tpye/);
  refused("version: v1alpha1\nmachine: 5\n", /cannot unmarshal machine/);
  refused(whole.replace("type: controlplane", "type: director"), /machine type is invalid/);
  refused(whole.replace("https://[fd00::1]:6443", "http://x"), /must be an https/);
  refused(whole.replace("/dev/sda", "/dev/nope"), /does not exist: "\/dev\/nope"/);
  refused(`${whole}\n---\n${whole}`, /repeated/);
  refused("[".repeat(200_000), /yaml/);
  refused(`a: &a [x]\nb: [${"*a,".repeat(500)}]\n`, /yaml|missing kind/);
});

test("any bytes are a configuration or refused", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void take(bytes)));
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void take(Buffer.from(text))));
});

test("documents with any values in the places that a machine reads are taken or refused", () => {
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constant({ toString: 1 }), fc.constant([null, { crt: 7 }]));
  const key = fc.constantFrom(
    ...["type", "token", "ca", "acceptedCAs", "certSANs", "install", "network", "nodeLabels", "kubelet"].map(
      (name) => `machine.${name}`,
    ),
    ...[
      "id",
      "clusterName",
      "controlPlane",
      "token",
      "ca",
      "etcd",
      "aggregatorCA",
      "serviceAccount",
      "network",
      "apiServer",
    ].map((name) => `cluster.${name}`),
  );
  const changes = fc.array(fc.tuple(key, value), { maxLength: 4 });
  const [main] = parseDocuments(Buffer.from(whole));
  fc.assert(
    fc.property(changes, (list) => {
      const body = structuredClone(main?.body) as Record<string, Record<string, unknown>>;
      for (const [path, item] of list) {
        const [section = "", name = ""] = path.split(".");
        Object.assign(body[section] ?? {}, { [name]: item });
      }
      take(Buffer.from(stringify(body)));
    }),
  );
  const kind = fc.constantFrom(
    "SideroLinkConfig",
    "EventSinkConfig",
    "KmsgLogConfig",
    "TrustedRootsConfig",
    "HostnameConfig",
    "KubeNodeConfig",
  );
  const field = fc.constantFrom(
    "name",
    "apiUrl",
    "uniqueToken",
    "endpoint",
    "url",
    "certificates",
    "hostname",
    "labels",
    "taints",
  );
  fc.assert(
    fc.property(kind, fc.dictionary(field, value), (name, body) => {
      take(Buffer.from(stringify({ ...body, apiVersion: "v1alpha1", kind: name })));
    }),
  );
});

test("a configuration cut or changed anywhere is taken or refused", () => {
  const bytes = Buffer.from(whole);
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.uint8Array({ minLength: 1, maxLength: 3 }), (at, patch) => {
      take(bytes.subarray(0, at));
      const changed = Buffer.from(bytes);
      changed.set(patch.subarray(0, bytes.length - at), at);
      take(changed);
    }),
    { numRuns: 60 },
  );
});
