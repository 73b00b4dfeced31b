import { randomBytes, randomInt } from "node:crypto";
import { z } from "zod";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { type CertKey, makeCA, makeRsaKey } from "./pki.ts";

/** All secrets of one cluster (protocols.md 15.1). PEM texts are plain here; configurations wrap them in base64. */
export interface SecretsBundle {
  /** 32 bytes, base64. */
  readonly clusterId: string;
  /** 32 bytes, base64: encrypts discovery data. */
  readonly clusterSecret: string;
  /** `xxxxxx.xxxxxxxxxxxxxxxx`: kubelets join with it. */
  readonly bootstrapToken: string;
  /** 32 bytes, base64: encrypts Kubernetes secrets in etcd. */
  readonly secretboxEncryptionSecret: string;
  /** Same form as the bootstrap token: workers ask trustd with it. */
  readonly trustdToken: string;
  readonly etcd: CertKey;
  readonly kubernetes: CertKey;
  readonly aggregator: CertKey;
  readonly serviceAccountKey: string;
  readonly os: CertKey;
}

/** New secrets for contracts from 1.7 on. Seconds of work on other threads, for the RSA key. */
export async function makeSecrets(clock: Clock): Promise<SecretsBundle> {
  const [os, kubernetes, etcd, aggregator, serviceAccountKey] = await Promise.all([
    makeCA("ed25519", "talos", clock),
    makeCA("p256", "kubernetes", clock),
    makeCA("p256", "etcd", clock),
    makeCA("p256", "", clock),
    makeRsaKey(),
  ]);
  return {
    clusterId: randomBytes(32).toString("base64"),
    clusterSecret: randomBytes(32).toString("base64"),
    bootstrapToken: makeToken(),
    secretboxEncryptionSecret: randomBytes(32).toString("base64"),
    trustdToken: makeToken(),
    etcd,
    kubernetes,
    aggregator,
    serviceAccountKey,
    os,
  };
}

const pair = z.object({ Crt: z.base64(), Key: z.base64() });
const storedBundle = z.object({
  Cluster: z.object({ Id: z.string(), Secret: z.string() }),
  Secrets: z.object({ BootstrapToken: z.string(), SecretboxEncryptionSecret: z.string() }),
  TrustdInfo: z.object({ Token: z.string() }),
  Certs: z.object({
    Etcd: pair,
    K8s: pair,
    K8sAggregator: pair,
    K8sServiceAccount: z.object({ Key: z.base64() }),
    OS: pair,
  }),
});

/** The bundle in Omni's stored form: JSON with Go's key names, PEM in base64. */
export function encodeSecrets(bundle: SecretsBundle): Uint8Array {
  const wrap = ({ crt, key }: CertKey) => ({ Crt: base64(crt), Key: base64(key) });
  const stored: z.infer<typeof storedBundle> = {
    Cluster: { Id: bundle.clusterId, Secret: bundle.clusterSecret },
    Secrets: { BootstrapToken: bundle.bootstrapToken, SecretboxEncryptionSecret: bundle.secretboxEncryptionSecret },
    TrustdInfo: { Token: bundle.trustdToken },
    Certs: {
      Etcd: wrap(bundle.etcd),
      K8s: wrap(bundle.kubernetes),
      K8sAggregator: wrap(bundle.aggregator),
      K8sServiceAccount: { Key: base64(bundle.serviceAccountKey) },
      OS: wrap(bundle.os),
    },
  };
  return Buffer.from(JSON.stringify(stored));
}

/** The inverse. Throws `data_loss`, without a word of the content. */
export function decodeSecrets(data: Uint8Array): SecretsBundle {
  let stored: z.infer<typeof storedBundle>;
  try {
    stored = storedBundle.parse(JSON.parse(Buffer.from(data).toString()));
  } catch {
    throw new IchorError("data_loss", "the stored secrets of the cluster cannot be read");
  }
  const unwrap = ({ Crt, Key }: z.infer<typeof pair>): CertKey => ({ crt: text(Crt), key: text(Key) });
  const { Cluster, Secrets, TrustdInfo, Certs } = stored;
  return {
    clusterId: Cluster.Id,
    clusterSecret: Cluster.Secret,
    bootstrapToken: Secrets.BootstrapToken,
    secretboxEncryptionSecret: Secrets.SecretboxEncryptionSecret,
    trustdToken: TrustdInfo.Token,
    etcd: unwrap(Certs.Etcd),
    kubernetes: unwrap(Certs.K8s),
    aggregator: unwrap(Certs.K8sAggregator),
    serviceAccountKey: text(Certs.K8sServiceAccount.Key),
    os: unwrap(Certs.OS),
  };
}

/** The bundle as `talosctl gen config --with-secrets` reads it. */
export function toTalosctlSecrets(bundle: SecretsBundle): object {
  const wrap = ({ crt, key }: CertKey) => ({ crt: base64(crt), key: base64(key) });
  return {
    cluster: { id: bundle.clusterId, secret: bundle.clusterSecret },
    secrets: { bootstraptoken: bundle.bootstrapToken, secretboxencryptionsecret: bundle.secretboxEncryptionSecret },
    trustdinfo: { token: bundle.trustdToken },
    certs: {
      etcd: wrap(bundle.etcd),
      k8s: wrap(bundle.kubernetes),
      k8saggregator: wrap(bundle.aggregator),
      k8sserviceaccount: { key: base64(bundle.serviceAccountKey) },
      os: wrap(bundle.os),
    },
  };
}

/** Base64 of a text, as configurations hold PEM. */
export function base64(value: string): string {
  return Buffer.from(value).toString("base64");
}

function text(value: string): string {
  return Buffer.from(value, "base64").toString();
}

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";

function makeToken(): string {
  const part = (length: number) => Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join("");
  return `${part(6)}.${part(16)}`;
}
