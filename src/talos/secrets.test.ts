import assert from "node:assert/strict";
import { createPublicKey, X509Certificate } from "node:crypto";
import { before, test } from "node:test";
import fc from "fast-check";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { readKey } from "./pki.ts";
import { decodeSecrets, encodeSecrets, makeSecrets, type SecretsBundle, toTalosctlSecrets } from "./secrets.ts";

let bundle: SecretsBundle;
before(async () => {
  bundle = await makeSecrets(systemClock);
});

test("a new bundle has the forms of Talos: sizes, tokens, kinds of keys", () => {
  for (const value of [bundle.clusterId, bundle.clusterSecret, bundle.secretboxEncryptionSecret]) {
    assert.equal(Buffer.from(value, "base64").length, 32);
    assert.equal(Buffer.from(value, "base64").toString("base64"), value, "standard base64 with padding");
  }
  for (const token of [bundle.bootstrapToken, bundle.trustdToken]) assert.match(token, /^[0-9a-z]{6}\.[0-9a-z]{16}$/);
  assert.match(bundle.os.key, /^-----BEGIN ED25519 PRIVATE KEY-----\n/);
  assert.match(bundle.kubernetes.key, /^-----BEGIN EC PRIVATE KEY-----\n/);
  assert.match(bundle.serviceAccountKey, /^-----BEGIN RSA PRIVATE KEY-----\n/);
  assert.equal(readKey(bundle.serviceAccountKey).asymmetricKeyDetails?.modulusLength, 4096);
  const values = [
    bundle.clusterId,
    bundle.clusterSecret,
    bundle.secretboxEncryptionSecret,
    bundle.bootstrapToken,
    bundle.trustdToken,
  ];
  assert.equal(new Set(values).size, values.length);
});

test("stored and read back it is the same, also with other texts in it", () => {
  assert.deepEqual(decodeSecrets(encodeSecrets(bundle)), bundle);
  const text = fc.string({ unit: "grapheme" });
  const pair = fc.record({ crt: text, key: text }, { noNullPrototype: true });
  fc.assert(
    fc.property(
      fc.record(
        {
          clusterId: text,
          clusterSecret: text,
          bootstrapToken: text,
          secretboxEncryptionSecret: text,
          trustdToken: text,
          etcd: pair,
          kubernetes: pair,
          aggregator: pair,
          serviceAccountKey: text,
          os: pair,
        },
        { noNullPrototype: true },
      ),
      (any) => assert.deepEqual(decodeSecrets(encodeSecrets(any)), any),
    ),
  );
});

test("the stored form has Omni's names, and PEM in base64", () => {
  const stored = JSON.parse(Buffer.from(encodeSecrets(bundle)).toString()) as Record<
    string,
    Record<string, { Key: string }>
  >;
  assert.deepEqual(Object.keys(stored), ["Cluster", "Secrets", "TrustdInfo", "Certs"]);
  assert.deepEqual(Object.keys(stored.Certs!), ["Etcd", "K8s", "K8sAggregator", "K8sServiceAccount", "OS"]);
  assert.equal(Buffer.from(stored.Certs!.OS!.Key, "base64").toString(), bundle.os.key);
});

test("the talosctl form has its names and the same values", () => {
  const form = toTalosctlSecrets(bundle) as {
    certs: Record<string, { crt?: string; key: string }>;
    cluster: { id: string };
  };
  assert.deepEqual(Object.keys(form.certs), ["etcd", "k8s", "k8saggregator", "k8sserviceaccount", "os"]);
  assert.equal(Buffer.from(form.certs.k8s!.crt!, "base64").toString(), bundle.kubernetes.crt);
  assert.equal(form.cluster.id, bundle.clusterId);
});

test("what is stored wrong is refused without a word of it", () => {
  const encoded = Buffer.from(encodeSecrets(bundle));
  const check = (data: Uint8Array) => {
    try {
      decodeSecrets(data);
    } catch (error) {
      assert.ok(error instanceof IchorError);
      assert.equal(error.code, "data_loss");
      assert.equal(error.message, "the stored secrets of the cluster cannot be read");
      // Not even the log may see a part of it.
      assert.equal(error.cause, undefined);
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), check));
  fc.assert(
    fc.property(
      fc.json().map((text) => Buffer.from(text)),
      check,
    ),
  );
  fc.assert(
    fc.property(fc.nat(encoded.length - 1), fc.nat(255), (at, value) => {
      const changed = Uint8Array.from(encoded);
      changed[at] = value;
      check(changed);
      check(encoded.subarray(0, at));
    }),
  );
  assert.throws(() => decodeSecrets(new Uint8Array()), { code: "data_loss" });
});

test("the private keys fit the certificates", () => {
  for (const { crt, key } of [bundle.etcd, bundle.kubernetes, bundle.aggregator, bundle.os]) {
    const certificate = new X509Certificate(crt);
    const spki = (object: ReturnType<typeof createPublicKey>) => object.export({ type: "spki", format: "der" });
    assert.deepEqual(spki(createPublicKey(readKey(key))), spki(certificate.publicKey));
  }
});
