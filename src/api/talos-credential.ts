import { atLeast, type Caller } from "#guard/caller.ts";
import type { Clock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { type CertKey, issue } from "#talos/pki.ts";

/** Life of talosctl's access; a certificate cannot be taken back. */
const lifetime = 8 * 3_600_000;

/** Talos' role for one of the plane's. Throws `permission_denied` where there is none. */
function talosRole({ identity, role }: Caller): string {
  if (atLeast(role, "Admin")) return "os:admin";
  if (atLeast(role, "Operator")) return "os:operator";
  if (atLeast(role, "Reader")) return "os:reader";
  throw new IchorError("permission_denied", `a talosconfig needs the role Reader; "${identity}" has ${role}`);
}

/**
 * A client certificate of the plane's own CA for talosctl: it opens the plane's Talos proxy, no machine. Common name: the identity;
 * organization: the role.
 */
export function issueTalosCredential(ca: CertKey, caller: Caller, clock: Clock): Promise<CertKey> {
  return issue(
    ca,
    {
      commonName: caller.identity,
      organizations: [talosRole(caller)],
      usage: "client",
      ttl: lifetime,
      kind: "ed25519",
    },
    clock,
  );
}

/** Who a certificate of {@link issueTalosCredential} speaks for, by its subject; undefined for one that is none. */
export function readTalosCredential(subject: {
  readonly CN?: string | readonly string[];
  readonly O?: string | readonly string[];
}): { readonly identity: string; readonly roles: readonly string[] } | undefined {
  const roles = [subject.O ?? []].flat().filter((name) => /^os:(admin|operator|reader)$/.test(name));
  const identity = [subject.CN ?? []].flat()[0];
  return identity && roles.length > 0 ? { identity, roles } : undefined;
}
