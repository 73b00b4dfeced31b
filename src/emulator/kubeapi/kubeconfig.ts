import { stringify } from "yaml";
import type { Boot } from "#emulator/boot.ts";
import { issue } from "#emulator/pki.ts";
import { IchorError } from "#lib/errors.ts";

/** A kubeconfig with an administrator's client certificate, as a control plane makes it. */
export async function adminKubeconfig(boot: Boot): Promise<string> {
  const { config } = boot;
  if (!config?.kubernetes.key)
    throw new IchorError("failed_precondition", "the Kubernetes authority is not known on this machine");
  const pair = await issue(
    { crt: config.kubernetes.crt, key: config.kubernetes.key },
    {
      commonName: "admin",
      organizations: ["system:masters"],
      client: true,
      notBefore: boot.now() - 60_000,
      validity: 365 * 86_400_000,
    },
  );
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const name = config.clusterName || "talos";
  const user = `admin@${name}`;
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name, cluster: { server: config.endpoint, "certificate-authority-data": base64(config.kubernetes.crt) } },
    ],
    users: [{ name: user, user: { "client-certificate-data": base64(pair.crt), "client-key-data": base64(pair.key) } }],
    contexts: [{ name: user, context: { cluster: name, user, namespace: "default" } }],
    "current-context": user,
  });
}
