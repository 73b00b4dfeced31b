import assert from "node:assert/strict";
import { before, test } from "node:test";
import fc from "fast-check";
import { parse, parseAllDocuments, stringify } from "yaml";
import { systemClock } from "#lib/clock.ts";
import { printConfig } from "./document.ts";
import { generateConfig } from "./generate.ts";
import { joinConfig } from "./kernelargs.ts";
import { redact, redacted } from "./redact.ts";
import { base64, makeSecrets, type SecretsBundle, toTalosctlSecrets } from "./secrets.ts";

let bundle: SecretsBundle;
/** Every text that must not be seen, in the forms that it has anywhere. */
let secrets: string[];

before(async () => {
  bundle = await makeSecrets(systemClock);
  const keys = [bundle.etcd.key, bundle.kubernetes.key, bundle.aggregator.key, bundle.os.key, bundle.serviceAccountKey];
  secrets = [
    bundle.clusterSecret,
    bundle.bootstrapToken,
    bundle.secretboxEncryptionSecret,
    bundle.trustdToken,
    ...keys.map(base64),
    // A line out of the middle of each key: no part may remain either.
    ...keys.map((key) => key.split("\n")[1]!),
  ];
});

function clean(text: string, where = ""): void {
  for (const secret of secrets) assert.ok(!text.includes(secret), `a secret is left ${where}`);
}

const configs = () =>
  (["controlplane", "worker"] as const).flatMap((machineType) =>
    (["1.11", "1.12", "1.13"] as const).map((contract) =>
      generateConfig({
        contract,
        clusterName: "c",
        endpoint: "https://[fdae:41e4:649b:9303::1]:10000",
        secrets: bundle,
        machineType,
        kubernetesVersion: "1.34.1",
        installDisk: "/dev/sda",
        installImage: "factory.example/metal-installer/x:v1.13.0",
      }),
    ),
  );

test("no secret of a cluster is left in any generated configuration, and all else is", () => {
  for (const documents of configs()) {
    const text = redact(printConfig(documents));
    clean(text);
    const [main] = parseAllDocuments(text).map((document) => document.toJS() as Record<string, never>);
    const original = documents[0] as { machine: { install: object }; cluster: { id: string; ca: { crt: string } } };
    const shown = main as unknown as typeof original;
    assert.deepEqual(shown.machine.install, original.machine.install);
    assert.equal(shown.cluster.id, original.cluster.id);
    assert.equal(shown.cluster.ca.crt, original.cluster.ca.crt, "certificates are public");
    assert.equal(redact(text), text, "a second time changes nothing");
  }
});

test("nor in whatever way a configuration is written", () => {
  const style = fc.record({
    indent: fc.integer({ min: 1, max: 8 }),
    collectionStyle: fc.constantFrom("any" as const, "block" as const, "flow" as const),
    defaultStringType: fc.constantFrom(
      "PLAIN" as const,
      "QUOTE_DOUBLE" as const,
      "QUOTE_SINGLE" as const,
      "BLOCK_LITERAL" as const,
      "BLOCK_FOLDED" as const,
    ),
    defaultKeyType: fc.constantFrom("PLAIN" as const, "QUOTE_DOUBLE" as const),
    lineWidth: fc.constantFrom(0, 20, 80),
    json: fc.boolean(),
    which: fc.nat(5),
  });
  fc.assert(
    fc.property(style, ({ json, which, ...options }) => {
      const documents = configs()[which]!;
      const text = json
        ? documents.map((document) => JSON.stringify(document)).join("\n---\n")
        : documents.map((document) => stringify(document, options)).join("---\n");
      clean(redact(text), JSON.stringify(options));
    }),
    { numRuns: 60 },
  );
});

test("nor in comments, wherever they stand", () => {
  fc.assert(
    fc.property(fc.nat(5), fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 20 }), (which, comments) => {
      const lines = printConfig(configs()[which]!).split("\n");
      for (const [line, secret] of comments) {
        const comment = `# ${secrets[secret % secrets.length]}`;
        const at = line % lines.length;
        // Behind a value, or as a line of its own.
        if (line % 2 === 0 && !/[|>][-+]?$/.test(lines[at]!)) lines[at] += ` ${comment}`;
        else lines.splice(at, 0, comment);
      }
      clean(redact(lines.join("\n")));
    }),
    { numRuns: 60 },
  );
});

test("nor in a broken one: it vanishes as a whole", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.string({ minLength: 1, maxLength: 3 }), (cut, at, junk) => {
      const text = printConfig(configs()[0]!);
      const broken = text.slice(0, cut % text.length);
      const spoiled = text.slice(0, at % text.length) + junk + text.slice(at % text.length);
      for (const one of [broken, spoiled]) {
        const shown = redact(one);
        // A cut may turn a key into another key and so its value into no secret; what vanished is safe anyway.
        if (shown !== redacted && one === broken) clean(shown);
      }
    }),
    { numRuns: 100 },
  );
  for (const text of ["[", "a: b: c", "\ttoken: x", "[".repeat(50_000), "a: &x [*x]", "x: *nobody"])
    assert.equal(redact(text), redacted, text.slice(0, 20));
});

test("nor by aliases, repeats, other keys, lists and the bundle's own form", () => {
  const secret = bundle.trustdToken;
  for (const text of [
    `token: &a ${secret}\nother: *a\n`,
    `other: &a ${secret}\ntoken: *a\n`,
    `other: ${secret}\ntoken: ${secret}\n`,
    `machine: {token: ${secret}}\n---\nnote: the token is ${secret}, do not tell\n`,
    `secret: [${secret}]\n`,
    `key: {value: ${secret}}\n`,
    `auth: {a: {b: [${secret}]}}\n`,
    `? token\n: ${secret}\n`,
    `TOKEN: ${secret}\n`,
    `clusterSecret: ${secret}\n`,
    `environment: [TS_AUTHKEY=${secret}]\n`,
    `env: {MY_API_KEY: ${secret}}\n`,
    `proxy: http://user:${secret}@proxy.example:3128\n`,
    `apiUrl: grpc://plane.example:8090?jointoken=${secret}\n`,
    `a: ["siderolink.api=grpc://plane.example:8090?jointoken=${secret}"]\n`,
    `ca: ${base64(bundle.os.key)}\n`,
    `some: |\n${bundle.os.key.replaceAll(/^/gm, "  ")}\n`,
    `base: &b {token: ${secret}}\nmore: {<<: *b, x: 1}\n`,
    stringify(toTalosctlSecrets(bundle)),
  ])
    clean(redact(text), `in ${text.slice(0, 40).replace(secret, "…")}`);
});

test("nor in the documents that make a machine join", () => {
  const joinToken = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
  const text = joinConfig({
    apiUrl: "grpc://192.0.2.1:8090",
    joinToken,
    tunnel: true,
    planeAddress: "fdae:41e4:649b:9303::1",
    eventsPort: 8090,
    logsPort: 8092,
  });
  assert.ok(text.includes(joinToken));
  const shown = redact(text);
  assert.ok(!shown.includes(joinToken));
  assert.match(shown, /\[fdae:41e4:649b:9303::1\]:8090/);
});

test("what is no secret stays: switches, empty values, addresses, names", () => {
  const text = stringify({
    machine: { certSANs: ["a"], kubelet: { extraArgs: { "rotate-server-certificates": "true" } } },
    automountServiceAccountToken: false,
    token: "",
    keys: [{ slot: 0, tpm: {} }],
    url: "https://example.org/path?x=1",
    monkey: "banana",
  });
  assert.deepEqual(parse(redact(text)), parse(text));
});

test("any text is redacted without an error", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.json()), (text) => {
      assert.equal(typeof redact(text), "string");
    }),
    { numRuns: 200 },
  );
});
