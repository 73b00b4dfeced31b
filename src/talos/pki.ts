import "reflect-metadata";
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  webcrypto,
} from "node:crypto";
import { promisify } from "node:util";
import * as x509 from "@peculiar/x509";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";

/** Certificates as Talos makes and expects them (protocols.md 15.2). */

const generate = promisify(generateKeyPair);

/** A certificate and its private key, PEM. */
export interface CertKey {
  readonly crt: string;
  readonly key: string;
}

/** Kinds of key that Talos and Kubernetes use. */
export type KeyKind = "ed25519" | "p256";

const day = 86_400_000;
/** CAs live ten years of 365 days. */
export const caLifetime = 3650 * day;
const serverAuth = "1.3.6.1.5.5.7.3.1";
const clientAuth = "1.3.6.1.5.5.7.3.2";

const algorithms = {
  ed25519: { name: "Ed25519" },
  p256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
} as const;

/** A self-signed CA. The subject holds only the organization, or nothing. */
export async function makeCA(kind: KeyKind, organization: string, clock: Clock): Promise<CertKey> {
  const key = await newKey(kind);
  const name = new x509.Name(organization ? [{ O: [literal(organization)] }] : []);
  const publicKey = await cryptoPublic(key, kind);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: name,
    issuer: name,
    ...validity(clock, caLifetime),
    signingAlgorithm: algorithms[kind],
    publicKey,
    signingKey: await cryptoPrivate(key, kind),
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign, true),
      new x509.ExtendedKeyUsageExtension([serverAuth, clientAuth]),
      new x509.BasicConstraintsExtension(true, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
  return { crt: pem(certificate), key: keyPem(key) };
}

/** What a certificate is issued for. */
export interface IssueOptions {
  readonly commonName?: string;
  readonly organizations?: readonly string[];
  readonly usage: "client" | "server" | "both";
  /** Lifetime in milliseconds. */
  readonly ttl: number;
  readonly dnsNames?: readonly string[];
  readonly ips?: readonly string[];
  /** Kind of the new key; default that of the CA. */
  readonly kind?: KeyKind;
}

/** A new key and a certificate for it. Throws `invalid_argument` when the CA cannot be read. */
export async function issue(ca: CertKey, options: IssueOptions, clock: Clock): Promise<CertKey> {
  const caKind = kindOfKey(readKey(ca.key));
  const kind = options.kind ?? caKind;
  const key = await newKey(kind);
  return { crt: await sign(ca, options, await cryptoPublic(key, kind), clock), key: keyPem(key) };
}

/** talosctl's or the plane's access to apid: the roles are organizations, the extended usage exactly clientAuth (trap 10). */
export function issueTalosClient(ca: CertKey, roles: readonly string[], ttl: number, clock: Clock): Promise<CertKey> {
  return issue(ca, { organizations: roles, usage: "client", ttl }, clock);
}

/** The plane's own access to a cluster's Kubernetes API. */
export function issueKubernetesAdmin(ca: CertKey, ttl: number, clock: Clock): Promise<CertKey> {
  return issue(ca, { commonName: "omni:admin", organizations: ["system:masters"], usage: "client", ttl }, clock);
}

/**
 * Signs the request of a worker's apid as trustd does (protocols.md 5.11): server usage only, 24 hours. Throws `invalid_argument` for
 * what is no valid request, `permission_denied` when it asks for an organization (that would be a role).
 */
export async function signServerRequest(ca: CertKey, request: string, clock: Clock): Promise<string> {
  let csr: x509.Pkcs10CertificateRequest;
  try {
    csr = new x509.Pkcs10CertificateRequest(request);
    if (!(await csr.verify())) throw new Error("bad signature");
  } catch (cause) {
    throw new IchorError("invalid_argument", "the certificate request cannot be read or is not signed by its key", {
      cause,
    });
  }
  if (csr.subjectName.getField("O").length > 0)
    throw new IchorError("permission_denied", "a certificate request of a machine may not name an organization");
  const names =
    csr.extensions.find((extension) => extension instanceof x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const of = (type: string) => names.filter((name) => name.type === type).map(({ value }) => value);
  const commonName = csr.subjectName.getField("CN")[0];
  const options: IssueOptions = {
    usage: "server",
    ttl: day,
    dnsNames: of("dns"),
    ips: of("ip"),
    ...(commonName ? { commonName } : {}),
  };
  return sign(ca, options, await csr.publicKey.export(), clock);
}

/** When a certificate ends, milliseconds since the Unix epoch. Throws `invalid_argument`. */
export function expiryOf(certificate: string): number {
  return readCertificate(certificate).notAfter.getTime();
}

/** SHA-256 of a certificate's DER, hex: tells certificates apart in logs. */
export function fingerprint(certificate: string): string {
  return createHash("sha256")
    .update(new Uint8Array(readCertificate(certificate).rawData))
    .digest("hex");
}

/** A private key of any label that Talos writes. Throws `invalid_argument`. */
export function readKey(text: string): KeyObject {
  try {
    // OpenSSL does not know Talos' label for Ed25519 (trap 23).
    return createPrivateKey(text.replaceAll("ED25519 PRIVATE KEY", "PRIVATE KEY"));
  } catch (cause) {
    throw new IchorError("invalid_argument", "the private key cannot be read", { cause });
  }
}

/** Key PEM that OpenSSL takes. */
export function opensslKey(text: string): string {
  return text.replaceAll("ED25519 PRIVATE KEY", "PRIVATE KEY");
}

/** A new RSA key of 4096 bits, PKCS#1 PEM: the service account key. Takes seconds of another thread. */
export async function makeRsaKey(): Promise<string> {
  const { privateKey } = await generate("rsa", { modulusLength: 4096 });
  return privateKey.export({ type: "pkcs1", format: "pem" }).toString();
}

async function sign(ca: CertKey, options: IssueOptions, publicKey: webcrypto.CryptoKey, clock: Clock): Promise<string> {
  const caKey = readKey(ca.key);
  const kind = kindOfKey(caKey);
  const issuer = readCertificate(ca.crt);
  const subject: x509.JsonNameParams = [];
  if (options.organizations?.length) subject.push({ O: options.organizations.map(literal) });
  if (options.commonName) subject.push({ CN: [literal(options.commonName)] });
  const names: x509.JsonGeneralNames = [
    ...(options.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(options.ips ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  const usages = { client: [clientAuth], server: [serverAuth], both: [serverAuth, clientAuth] }[options.usage];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: new x509.Name(subject),
    issuer: issuer.subjectName,
    ...validity(clock, options.ttl),
    signingAlgorithm: algorithms[kind],
    publicKey,
    signingKey: await cryptoPrivate(caKey, kind),
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      new x509.BasicConstraintsExtension(false, undefined, true),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  return pem(certificate);
}

/** A text of a subject as it is. Bare texts would be read: a common name could become an organization by its punctuation. */
function literal(text: string): { printableString: string } | { utf8String: string } {
  return /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text) ? { printableString: text } : { utf8String: text };
}

function readCertificate(text: string): x509.X509Certificate {
  try {
    return new x509.X509Certificate(text);
  } catch (cause) {
    throw new IchorError("invalid_argument", "the certificate cannot be read", { cause });
  }
}

/** An hour back: machines at the edge boot with clocks that run behind. */
function validity(clock: Clock, ttl: number) {
  const now = clock.now();
  return { notBefore: new Date(now - 3_600_000), notAfter: new Date(now + ttl) };
}

function serial(): string {
  const bytes = randomBytes(16);
  bytes[0]! &= 0x7f;
  return bytes.toString("hex");
}

async function newKey(kind: KeyKind): Promise<KeyObject> {
  return kind === "ed25519"
    ? (await generate("ed25519")).privateKey
    : (await generate("ec", { namedCurve: "P-256" })).privateKey;
}

function kindOfKey(key: KeyObject): KeyKind {
  if (key.asymmetricKeyType === "ed25519") return "ed25519";
  if (key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1") return "p256";
  throw new IchorError("unimplemented", `a CA with a key of type ${key.asymmetricKeyType} is not supported`);
}

async function cryptoPrivate(key: KeyObject, kind: KeyKind): Promise<webcrypto.CryptoKey> {
  return webcrypto.subtle.importKey("pkcs8", key.export({ type: "pkcs8", format: "der" }), algorithms[kind], false, [
    "sign",
  ]);
}

async function cryptoPublic(key: KeyObject, kind: KeyKind): Promise<webcrypto.CryptoKey> {
  return webcrypto.subtle.importKey(
    "spki",
    createPublicKey(key).export({ type: "spki", format: "der" }),
    algorithms[kind],
    true,
    ["verify"],
  );
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem").trimEnd()}\n`;
}

function keyPem(key: KeyObject): string {
  if (key.asymmetricKeyType === "ec") return key.export({ type: "sec1", format: "pem" }).toString();
  return key.export({ type: "pkcs8", format: "pem" }).toString().replaceAll("PRIVATE KEY", "ED25519 PRIVATE KEY");
}
