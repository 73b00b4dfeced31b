import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { jwtVerify, SignJWT } from "jose";
import { PlaneKeyKind } from "#kinds/access/plane-key.ts";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import type { Clock } from "#lib/clock.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import type { State } from "#store/state.ts";

const issuer = "ichor";
const audience = "kubernetes";
const keyId = "kubernetes-token";
const hour = 3_600_000;
/** Life of a kubeconfig's token when nobody says otherwise. */
export const defaultTokenLifetime = 8 * hour;
/** The longest life: a token cannot be taken back. */
export const longestTokenLifetime = 30 * 24 * hour;
/** Longest text that is looked at. */
const longestToken = 8192;

/** What a token says. */
export interface KubernetesIdentity {
  readonly identity: string;
  readonly cluster: string;
  /** Tells the cluster from earlier ones of its name. */
  readonly clusterUUID?: string;
  readonly groups: readonly string[];
}

/** Makes and reads the tokens in kubeconfigs: JWTs that the plane signs with a key of its own (protocols.md 10.3, 10.4). */
export class KubernetesTokens {
  readonly #state: State;
  readonly #clock: Clock;
  #key: Promise<{ privateKey: KeyObject; publicKey: KeyObject; kid: string }> | undefined;

  constructor(state: State, clock: Clock) {
    this.#state = state.as("plane");
    this.#clock = clock;
  }

  /** A token for `ttl` milliseconds, at most {@link longestTokenLifetime}. Throws `invalid_argument` for another time. */
  async sign(claims: Omit<KubernetesIdentity, "clusterUUID">, ttl = defaultTokenLifetime): Promise<string> {
    if (!(ttl >= 1000 && ttl <= longestTokenLifetime))
      throw new IchorError("invalid_argument", `a token lives from a second to ${longestTokenLifetime / hour} hours`);
    const { privateKey, kid } = await this.#keys();
    const uuid = (await this.#state.get(ClusterUUIDKind, claims.cluster))?.spec.uuid;
    const now = Math.floor(this.#clock.now() / 1000);
    return new SignJWT({ cluster: claims.cluster, groups: [...claims.groups], ...(uuid ? { cluster_uuid: uuid } : {}) })
      .setProtectedHeader({ alg: "EdDSA", kid, typ: "JWT" })
      .setSubject(claims.identity)
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt(now)
      .setExpirationTime(now + Math.floor(ttl / 1000))
      .sign(privateKey);
  }

  /** Reads a token. Throws `unauthenticated` for one that is not ours, was changed, or has expired. */
  async verify(token: string): Promise<KubernetesIdentity> {
    const { publicKey } = await this.#keys();
    try {
      if (token.length > longestToken) throw new Error("too long");
      const { payload } = await jwtVerify(token, publicKey, {
        algorithms: ["EdDSA"],
        issuer,
        audience,
        currentDate: new Date(this.#clock.now()),
        requiredClaims: ["sub", "exp", "cluster", "groups"],
      });
      const { sub, cluster, groups, cluster_uuid: clusterUUID } = payload;
      if (typeof sub !== "string" || typeof cluster !== "string" || !isTexts(groups)) throw new Error("claims");
      return { identity: sub, cluster, groups, ...(typeof clusterUUID === "string" ? { clusterUUID } : {}) };
    } catch (cause) {
      throw new IchorError("unauthenticated", "the token is not valid, or has expired: get a new kubeconfig", {
        cause,
      });
    }
  }

  #keys() {
    this.#key ??= this.#load().catch((error: unknown) => {
      this.#key = undefined;
      throw error;
    });
    return this.#key;
  }

  async #load() {
    const known = await this.#state.get(PlaneKeyKind, keyId);
    const data = known?.spec.data ?? (await this.#make());
    const privateKey = createPrivateKey(Buffer.from(data).toString());
    const publicKey = createPublicKey(privateKey);
    const kid = createHash("sha256")
      .update(publicKey.export({ type: "spki", format: "der" }))
      .digest("base64url");
    return { privateKey, publicKey, kid: kid.slice(0, 16) };
  }

  async #make(): Promise<Uint8Array> {
    const { privateKey } = generateKeyPairSync("ed25519");
    const data = Buffer.from(privateKey.export({ type: "pkcs8", format: "pem" }));
    try {
      await this.#state.create(PlaneKeyKind, keyId, { data });
      return data;
    } catch (error) {
      if (codeOf(error) !== "already_exists") throw error;
      return (await this.#state.require(PlaneKeyKind, keyId)).spec.data;
    }
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
