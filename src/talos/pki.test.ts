import "reflect-metadata";
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto, X509Certificate } from "node:crypto";
import { test } from "node:test";
import * as x509 from "@peculiar/x509";
import fc from "fast-check";
import { ManualClock } from "#lib/clock.ts";
import { codeOf } from "#lib/errors.ts";
import {
  type CertKey,
  expiryOf,
  fingerprint,
  issue,
  issueKubernetesAdmin,
  issueTalosClient,
  makeCA,
  opensslKey,
  readKey,
  signServerRequest,
} from "./pki.ts";

const day = 86_400_000;
const clock = new ManualClock(Date.UTC(2026, 5, 1, 12));
const serverAuth = "1.3.6.1.5.5.7.3.1";
const clientAuth = "1.3.6.1.5.5.7.3.2";
const [os, kubernetes, aggregator] = await Promise.all([
  makeCA("ed25519", "talos", clock),
  makeCA("p256", "kubernetes", clock),
  makeCA("p256", "", clock),
]);

/** What OpenSSL, not the library that made it, says of a certificate. */
const read = ({ crt }: Pick<CertKey, "crt">) => new X509Certificate(crt);
const lifetime = (pair: CertKey) => [Date.parse(read(pair).validFrom), Date.parse(read(pair).validTo)];
const fits = ({ crt, key }: CertKey) => new X509Certificate(crt).checkPrivateKey(createPrivateKey(opensslKey(key)));

/** A request as apid makes it, with whatever subject and names. */
async function request(options: { subject?: string | x509.Name; names?: x509.JsonGeneralNames } = {}): Promise<string> {
  const keys = await webcrypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  if (!("privateKey" in keys)) throw new Error("no pair of keys");
  const made = await x509.Pkcs10CertificateRequestGenerator.create({
    name: options.subject ?? "",
    keys,
    signingAlgorithm: { name: "Ed25519" },
    extensions: options.names ? [new x509.SubjectAlternativeNameExtension(options.names)] : [],
  });
  return made.toString("pem");
}

test("CAs: kinds, subjects, ten years, and no more rights than Talos gives", () => {
  for (const [ca, subject, kind] of [
    [os, "O=talos", "ed25519"],
    [kubernetes, "O=kubernetes", "ec"],
    [aggregator, undefined, "ec"],
  ] as const) {
    const certificate = read(ca);
    assert.equal(certificate.subject || undefined, subject);
    assert.equal(certificate.issuer || undefined, subject);
    assert.equal(certificate.publicKey.asymmetricKeyType, kind);
    assert.equal(certificate.ca, true);
    assert.ok(certificate.verify(certificate.publicKey));
    assert.ok(fits(ca));
    assert.deepEqual(lifetime(ca), [clock.now() - 3_600_000, clock.now() + 3650 * day]);
    assert.deepEqual(certificate.keyUsage?.toSorted(), [clientAuth, serverAuth].toSorted());
    assert.ok(certificate.serialNumber.length <= 32);
  }
  assert.notEqual(read(os).serialNumber, read(kubernetes).serialNumber);
});

test("a client of apid: roles as organizations, client only, of the CA's kind of key", async () => {
  const pair = await issueTalosClient(os, ["os:admin", "os:reader"], day, clock);
  const certificate = read(pair);
  assert.equal(certificate.subject, "O=os:admin + O=os:reader");
  assert.deepEqual(certificate.keyUsage, [clientAuth]);
  assert.equal(certificate.ca, false);
  assert.ok(certificate.verify(read(os).publicKey));
  assert.ok(certificate.checkIssued(read(os)));
  assert.ok(fits(pair));
  assert.equal(certificate.publicKey.asymmetricKeyType, "ed25519");
  assert.match(pair.key, /ED25519 PRIVATE KEY/);
  assert.deepEqual(lifetime(pair), [clock.now() - 3_600_000, clock.now() + day]);
});

test("the plane's access to Kubernetes", async () => {
  const pair = await issueKubernetesAdmin(kubernetes, 365 * day, clock);
  assert.equal(read(pair).subject, "O=system:masters\nCN=omni:admin");
  assert.deepEqual(read(pair).keyUsage, [clientAuth]);
  assert.equal(read(pair).publicKey.asymmetricKeyType, "ec");
  assert.match(pair.key, /^-----BEGIN EC PRIVATE KEY-----/);
  assert.ok(read(pair).verify(read(kubernetes).publicKey));
});

test("names of a server: all of them, IPv6 too, in the certificate and in nothing else", async () => {
  const ips = ["192.0.2.1", "fdae:41e4:649b:9303::1", "::1"];
  const dnsNames = ["node.example", "*.example"];
  const pair = await issue(kubernetes, { usage: "both", ttl: day, dnsNames, ips, kind: "ed25519" }, clock);
  const certificate = read(pair);
  for (const ip of ips) assert.equal(certificate.checkIP(ip), ip);
  assert.equal(certificate.checkIP("192.0.2.2"), undefined);
  assert.equal(certificate.checkHost("node.example"), "node.example");
  assert.equal(certificate.checkHost("other.test"), undefined);
  assert.deepEqual(certificate.keyUsage?.toSorted(), [serverAuth, clientAuth].toSorted());
  assert.equal(certificate.publicKey.asymmetricKeyType, "ed25519");
  assert.ok(certificate.verify(read(kubernetes).publicKey));
});

test("subjects with any letters come out as they went in: nobody gets a role by punctuation", async () => {
  const awkward = fc
    .string({ unit: fc.constantFrom(...'abO=,+;"\\<>#: /'), minLength: 1, maxLength: 12 })
    .filter((text) => text.trim() === text);
  await fc.assert(
    fc.asyncProperty(awkward, awkward, async (organization, commonName) => {
      const options = { organizations: [organization], commonName, usage: "client" as const, ttl: day };
      const { crt } = await issue(os, options, clock);
      const subject = new x509.X509Certificate(crt).subjectName;
      assert.deepEqual(subject.getField("O"), [organization]);
      assert.deepEqual(subject.getField("CN"), [commonName]);
    }),
    { numRuns: 60 },
  );
});

test("trustd signs what a worker asks for: its key, its names, 24 hours, server alone", async () => {
  const names: x509.JsonGeneralNames = [
    { type: "ip", value: "10.0.0.5" },
    { type: "ip", value: "fdae:41e4:649b:9303::5" },
    { type: "dns", value: "worker-1" },
  ];
  const csr = await request({ subject: "CN=worker-1", names });
  const crt = await signServerRequest(os, csr, clock);
  const certificate = new X509Certificate(crt);
  assert.equal(certificate.checkIP("fdae:41e4:649b:9303::5"), "fdae:41e4:649b:9303::5");
  assert.equal(certificate.checkIP("10.0.0.5"), "10.0.0.5");
  assert.equal(certificate.subject, "CN=worker-1");
  assert.deepEqual(certificate.keyUsage, [serverAuth]);
  assert.equal(certificate.ca, false);
  assert.ok(certificate.verify(read(os).publicKey));
  assert.equal(Date.parse(certificate.validTo), clock.now() + day);
  const asked = new x509.Pkcs10CertificateRequest(csr).publicKey.rawData;
  assert.deepEqual(certificate.publicKey.export({ type: "spki", format: "der" }), Buffer.from(asked));
});

test("no common name that a machine asks for turns into a role", async () => {
  for (const value of [
    "w, O=os:admin",
    "w\\, O=os:admin",
    "w\\\\, O=os:admin",
    "w+O=os:admin",
    "w\nO=os:admin",
    'w", O="os:admin',
  ]) {
    const named = new x509.Name([{ CN: [{ utf8String: value }] }]);
    const csr = await request({ subject: named });
    const signed = new x509.X509Certificate(await signServerRequest(os, csr, clock));
    assert.deepEqual(signed.subjectName.getField("O"), [], value);
    assert.deepEqual(signed.subjectName.getField("CN"), [value]);
  }
});

test("trustd refuses roles, other people's keys and what is no request", async () => {
  await assert.rejects(signServerRequest(os, await request({ subject: "O=os:admin" }), clock), {
    code: "permission_denied",
  });
  await assert.rejects(signServerRequest(os, await request({ subject: "CN=x, O=a" }), clock), {
    code: "permission_denied",
  });
  const csr = await request({ subject: "CN=w" });
  const der = Buffer.from(csr.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
  const wrap = (bytes: Uint8Array) =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(bytes).toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
  await assert.doesNotReject(signServerRequest(os, wrap(der), clock));
  const asked = new x509.Pkcs10CertificateRequest(csr).publicKey.rawData;
  await fc.assert(
    fc.asyncProperty(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const forged = Uint8Array.from(der);
      forged[at]! ^= change;
      try {
        // Some bytes around what is signed may be anything; what is signed may not.
        const signed = new X509Certificate(await signServerRequest(os, wrap(forged), clock));
        assert.equal(signed.subject, "CN=w");
        assert.deepEqual(signed.publicKey.export({ type: "spki", format: "der" }), Buffer.from(asked));
      } catch (error) {
        assert.ok(["invalid_argument", "permission_denied"].includes(codeOf(error)), String(error));
      }
    }),
    { numRuns: 300 },
  );
  for (const text of ["", "x", os.crt, os.key])
    await assert.rejects(signServerRequest(os, text, clock), { code: "invalid_argument" });
});

test("keys of every label are read; what is none is refused without its text", () => {
  const pem = (type: "pkcs1" | "pkcs8" | "sec1", key: ReturnType<typeof createPrivateKey>) =>
    key.export({ type, format: "pem" } as { type: "pkcs8"; format: "pem" }).toString();
  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const edwards = generateKeyPairSync("ed25519").privateKey;
  const spki = (key: ReturnType<typeof createPrivateKey>) =>
    createPublicKey(key).export({ type: "spki", format: "der" });
  for (const [text, key] of [
    [pem("sec1", ec), ec],
    [pem("pkcs8", ec), ec],
    [pem("pkcs1", rsa), rsa],
    [pem("pkcs8", edwards), edwards],
    [pem("pkcs8", edwards).replaceAll("PRIVATE KEY", "ED25519 PRIVATE KEY"), edwards],
  ] as const)
    assert.deepEqual(spki(readKey(text)), spki(key));
  for (const text of ["", "secret-text", os.crt, os.key.slice(0, 60)])
    assert.throws(() => readKey(text), { code: "invalid_argument", message: "the private key cannot be read" });
});

test("a CA that cannot be used is refused in words", async () => {
  const options = { usage: "client" as const, ttl: day };
  await assert.rejects(issue({ crt: "x", key: os.key }, options, clock), { code: "invalid_argument" });
  await assert.rejects(issue({ crt: os.crt, key: "x" }, options, clock), { code: "invalid_argument" });
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  await assert.rejects(issue({ crt: os.crt, key: rsa.toString() }, options, clock), { code: "unimplemented" });
});

test("expiry and fingerprint are OpenSSL's", () => {
  assert.equal(expiryOf(os.crt), clock.now() + 3650 * day);
  assert.equal(fingerprint(os.crt), read(os).fingerprint256.replaceAll(":", "").toLowerCase());
  assert.throws(() => expiryOf("x"), { code: "invalid_argument" });
  assert.throws(() => fingerprint(""), { code: "invalid_argument" });
});
