import "reflect-metadata";
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  type webcrypto,
  X509Certificate,
} from "node:crypto";
import * as x509 from "@peculiar/x509";
import { IchorError } from "#lib/errors.ts";

x509.cryptoProvider.set(globalThis.crypto);

/** A certificate and its key, PEM. */
export interface Pair {
  readonly crt: string;
  readonly key: string;
}

/** What to put in a certificate. */
export interface Leaf {
  readonly commonName?: string;
  readonly organizations?: readonly string[];
  readonly dns?: readonly string[];
  readonly ips?: readonly string[];
  readonly server?: boolean;
  readonly client?: boolean;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  /** Milliseconds. */
  readonly validity: number;
}

const usages = { server: "1.3.6.1.5.5.7.3.1", client: "1.3.6.1.5.5.7.3.2" } as const;

/** A key as Talos writes them: Ed25519 under its own label, P-256 as SEC1. */
export function newKey(kind: "ed25519" | "p256"): { readonly key: KeyObject; readonly pem: string } {
  if (kind === "ed25519") {
    const { privateKey } = generateKeyPairSync("ed25519");
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
    return { key: privateKey, pem };
  }
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { key: privateKey, pem: privateKey.export({ type: "sec1", format: "pem" }) as string };
}

/** Reads a key in any of Talos' PEM labels. Throws `invalid_argument`. */
export function parseKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem.replaceAll("ED25519 PRIVATE KEY", "PRIVATE KEY"));
  } catch (cause) {
    throw new IchorError("invalid_argument", "failed to parse private key", { cause });
  }
}

/** Issues a certificate for a new key of the issuer's kind. */
export async function issue(ca: Pair, leaf: Leaf): Promise<Pair> {
  const issuer = parseKey(ca.key);
  const own = newKey(issuer.asymmetricKeyType === "ed25519" ? "ed25519" : "p256");
  return { crt: await certify(ca, leaf, own.key), key: own.pem };
}

/** Issues a certificate for a key that is there already (PEM). */
export async function issueFor(ca: Pair, leaf: Leaf, key: string): Promise<string> {
  return certify(ca, leaf, parseKey(key));
}

/** A self-signed certificate, Ed25519. */
export async function selfSigned(leaf: Leaf): Promise<Pair> {
  const own = newKey("ed25519");
  return { crt: await build(leaf, own.key, own.key, `CN=${leaf.commonName ?? ""}`), key: own.pem };
}

/** A certificate request for a new Ed25519 key: what a worker sends to trustd (protocols.md 5.11). */
export async function newRequest(
  leaf: Pick<Leaf, "commonName" | "dns" | "ips">,
): Promise<{ csr: string; key: string }> {
  const own = newKey("ed25519");
  const keys = { privateKey: await toCrypto(own.key), publicKey: await toCryptoPublic(own.key) };
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: nameOf(leaf),
    keys,
    signingAlgorithm: { name: "Ed25519" },
    extensions: sans(leaf),
  });
  return { csr: csr.toString("pem"), key: own.pem };
}

/**
 * Whether a peer certificate may be let in by one of `authorities` (PEMs): issued by it, valid now, and for clients only. Answers
 * the reason when not.
 */
export function rejectClient(peer: X509Certificate, authorities: readonly string[], now: number): string | undefined {
  const issuer = authorities
    .flatMap((pems) => pems.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [])
    .map((pem) => new X509Certificate(pem))
    .find((ca) => ca.ca && peer.checkIssued(ca) && peer.verify(ca.publicKey));
  if (!issuer) return "certificate signed by unknown authority";
  if (now < Date.parse(peer.validFrom) || now > Date.parse(peer.validTo))
    return "certificate has expired or is not yet valid";
  const extended = peer.keyUsage ?? [];
  if (extended.length !== 1 || extended[0] !== usages.client)
    return "certificate must have ExtKeyUsage ClientAuth only";
  return undefined;
}

/** Values of one attribute of a certificate's subject, in order. */
export function subjectValues(certificate: X509Certificate, attribute: "O" | "CN"): string[] {
  return new x509.X509Certificate(certificate.raw).subjectName.getField(attribute);
}

async function certify(ca: Pair, leaf: Leaf, key: KeyObject): Promise<string> {
  const issuerName = new x509.X509Certificate(ca.crt).subject;
  return build(leaf, key, parseKey(ca.key), issuerName);
}

async function build(leaf: Leaf, key: KeyObject, issuer: KeyObject, issuerName: string): Promise<string> {
  const extended = [...(leaf.server ? [usages.server] : []), ...(leaf.client ? [usages.client] : [])];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: `00${randomBytes(15).toString("hex")}`,
    subject: nameOf(leaf),
    issuer: issuerName,
    notBefore: new Date(leaf.notBefore),
    notAfter: new Date(leaf.notBefore + leaf.validity),
    publicKey: await toCryptoPublic(key),
    signingKey: await toCrypto(issuer),
    signingAlgorithm: signing(issuer),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension(extended),
      ...sans(leaf),
    ],
  });
  return certificate.toString("pem");
}

function nameOf(leaf: Pick<Leaf, "commonName" | "organizations">): x509.JsonName {
  return [
    ...(leaf.organizations ?? []).map((value) => ({ O: [value] })),
    ...(leaf.commonName ? [{ CN: [leaf.commonName] }] : []),
  ];
}

function sans(leaf: Pick<Leaf, "dns" | "ips">): x509.Extension[] {
  const names = [
    ...(leaf.dns ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(leaf.ips ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  return names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [];
}

function algorithm(key: KeyObject): { name: string; namedCurve?: string; hash?: string } {
  switch (key.asymmetricKeyType) {
    case "ed25519":
      return { name: "Ed25519" };
    case "ec":
      return { name: "ECDSA", namedCurve: "P-256" };
    case "rsa":
      return { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
    default:
      throw new IchorError("invalid_argument", "unsupported key type");
  }
}

function signing(key: KeyObject): { name: string; hash?: string } {
  const { name } = algorithm(key);
  return name === "Ed25519" ? { name } : { name, hash: "SHA-256" };
}

function toCrypto(key: KeyObject): Promise<webcrypto.CryptoKey> {
  return crypto.subtle.importKey("pkcs8", key.export({ type: "pkcs8", format: "der" }), algorithm(key), true, ["sign"]);
}

function toCryptoPublic(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const der = createPublicKey(key).export({ type: "spki", format: "der" });
  return crypto.subtle.importKey("spki", der, algorithm(key), true, ["verify"]);
}
