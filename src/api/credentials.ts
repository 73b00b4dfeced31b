import { stringify } from "yaml";
import type { Caller } from "#guard/caller.ts";
import type { Clock } from "#lib/clock.ts";
import type { CertKey } from "#talos/pki.ts";
import { issueTalosCredential } from "./talos-credential.ts";

/** A kubeconfig for the plane's proxy; its one secret is a token for one cluster. */
export function kubeconfigOf(at: { url: string; ca: string; cluster: string; user: string; token: string }): string {
  const name = `ichor-${at.cluster}`;
  const user = `${name}-${at.user}`;
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name,
        cluster: {
          server: `${at.url}/k8s/clusters/${encodeURIComponent(at.cluster)}`,
          "certificate-authority-data": Buffer.from(at.ca).toString("base64"),
        },
      },
    ],
    contexts: [{ name, context: { cluster: name, user, namespace: "default" } }],
    "current-context": name,
    users: [{ name: user, user: { token: at.token } }],
  });
}

/** A talosconfig for the plane's proxy, with a certificate for this caller that ends within hours. */
export async function talosconfigOf(
  at: { host: string; ca: CertKey; cluster: string },
  caller: Caller,
  clock: Clock,
): Promise<string> {
  const own = await issueTalosCredential(at.ca, caller, clock);
  const name = at.cluster ? `ichor-${at.cluster}` : "ichor";
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return stringify({
    context: name,
    contexts: {
      [name]: {
        endpoints: [at.host],
        ca: base64(at.ca.crt),
        crt: base64(own.crt),
        key: base64(own.key),
        ...(at.cluster ? { cluster: at.cluster } : {}),
      },
    },
  });
}
