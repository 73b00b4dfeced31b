import type { Http2SecureServer } from "node:http2";
import { isIP } from "node:net";
import { PlaneKeyKind } from "#kinds/access/plane-key.ts";
import type { Clock, Timer } from "#lib/clock.ts";
import type { State } from "#store/state.ts";
import { type CertKey, issue, makeCA } from "#talos/pki.ts";
import { generatePrivateKey } from "#wireguard/keys.ts";

const day = 86_400_000;
/** Life of the certificate of the plane's port. */
const certificateLife = 90 * day;
/** Timers cannot wait much longer than this. */
const renewAfter = 20 * day;

/** The plane's own CA; made at the first start, kept sealed. */
export function planeCA(state: State, clock: Clock): Promise<CertKey> {
  return kept(state, "ca", async () => JSON.stringify(await makeCA("p256", "ichor", clock))).then(
    (text) => JSON.parse(text) as CertKey,
  );
}

/** The plane's WireGuard key, 32 bytes; made at the first start, kept sealed. */
export async function wireguardKey(state: State): Promise<Uint8Array> {
  return Buffer.from(
    await kept(state, "wireguard", async () => Buffer.from(generatePrivateKey()).toString("base64")),
    "base64",
  );
}

/** Gives the plane's port a certificate for all names that it may be called by, and a new one long before that ends. */
export async function keepCertificate(
  server: Pick<Http2SecureServer, "setSecureContext">,
  ca: CertKey,
  names: readonly string[],
  clock: Clock,
): Promise<{ stop(): void }> {
  const all = [...new Set([...names, "localhost", "127.0.0.1", "::1"])].filter(
    (name) => name !== "0.0.0.0" && name !== "::",
  );
  const options = {
    commonName: "ichor",
    usage: "server",
    ttl: certificateLife,
    dnsNames: all.filter((name) => isIP(name) === 0),
    ips: all.filter((name) => isIP(name) !== 0),
  } as const;
  let timer: Timer | undefined;
  const renew = async () => {
    const { crt, key } = await issue(ca, options, clock);
    server.setSecureContext({ cert: crt, key, ca: ca.crt });
    timer = clock.after(renewAfter, () => void renew());
  };
  await renew();
  return { stop: () => timer?.cancel() };
}

async function kept(state: State, id: string, make: () => Promise<string>): Promise<string> {
  const known = await state.get(PlaneKeyKind, id);
  if (known) return Buffer.from(known.spec.data).toString();
  const text = await make();
  await state.as("plane").create(PlaneKeyKind, id, { data: Buffer.from(text) });
  return text;
}
