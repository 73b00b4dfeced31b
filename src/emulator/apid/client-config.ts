import { stringify } from "yaml";
import type { Boot } from "#emulator/boot.ts";
import { issue } from "#emulator/pki.ts";
import { IchorError } from "#lib/errors.ts";

/** A client certificate of the cluster's authority, and a talosconfig around it. Control planes only. */
export async function clientConfiguration(boot: Boot, roles: readonly string[], ttl = 365 * 86_400_000) {
  const { config } = boot;
  if (!config?.controlPlane || !config.os.key)
    throw new IchorError("failed_precondition", "client configuration can be generated only on control plane nodes");
  if (roles.length === 0 || roles.some((role) => !/^os:[a-z:-]+$/.test(role)))
    throw new IchorError("invalid_argument", "roles are required");
  const pair = await issue(
    { crt: config.os.crt, key: config.os.key },
    { organizations: roles, client: true, notBefore: boot.now() - 60_000, validity: ttl },
  );
  const key = pair.key.replaceAll("PRIVATE KEY", "ED25519 PRIVATE KEY");
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const name = config.clusterName || "talos";
  const talosconfig = stringify({
    context: name,
    contexts: {
      [name]: { endpoints: boot.addresses(), ca: base64(config.os.crt), crt: base64(pair.crt), key: base64(key) },
    },
  });
  return {
    ca: Buffer.from(config.os.crt),
    crt: Buffer.from(pair.crt),
    key: Buffer.from(key),
    talosconfig: Buffer.from(talosconfig),
  };
}
