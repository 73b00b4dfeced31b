import { X509Certificate } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { TLSSocket } from "node:tls";
import type { Boot } from "#emulator/boot.ts";
import { rejectClient, subjectValues } from "#emulator/pki.ts";
import type { KubeObject, KubeObjects } from "./objects.ts";
import { KubeError } from "./status.ts";

/** Who calls. */
export interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

/** The caller by certificate or token, or whom it impersonates. Throws a KubeError: 401 unknown, 403 may not impersonate. */
export function authenticate(boot: Boot, socket: TLSSocket, headers: IncomingHttpHeaders, objects: KubeObjects): User {
  const user = byCertificate(boot, socket) ?? byToken(boot, headers, objects);
  if (!user) throw new KubeError(401, "Unauthorized", "Unauthorized");
  const name = headers["impersonate-user"];
  const groups = headers["impersonate-group"];
  if (name === undefined && groups === undefined) return user;
  if (
    !authorize(
      user,
      { verb: "impersonate", group: "", resource: "users", namespace: "", name: String(name ?? "") },
      objects,
    )
  )
    throw new KubeError(
      403,
      "Forbidden",
      `users "${String(name)}" is forbidden: User "${user.name}" cannot impersonate resource "users" in API group "" at the cluster scope`,
    );
  if (name === undefined) throw new KubeError(400, "BadRequest", "impersonating groups needs a user");
  const list = (Array.isArray(groups) ? groups : [groups ?? ""])
    .flatMap((value) => value.split(","))
    .map((group) => group.trim());
  return { name: String(name), groups: [...list.filter((group) => group !== ""), "system:authenticated"] };
}

function byCertificate(boot: Boot, socket: TLSSocket): User | undefined {
  const peer = socket.getPeerX509Certificate?.();
  if (!peer || !boot.config) return undefined;
  const certificate = new X509Certificate(peer.raw);
  if (rejectClient(certificate, [boot.config.kubernetes.crt], boot.now())) return undefined;
  return {
    name: subjectValues(certificate, "CN")[0] ?? "",
    groups: [...subjectValues(certificate, "O"), "system:authenticated"],
  };
}

function byToken(boot: Boot, headers: IncomingHttpHeaders, objects: KubeObjects): User | undefined {
  const token = /^Bearer (.+)$/i.exec(headers.authorization ?? "")?.[1];
  if (!token || !boot.config) return undefined;
  // The kubelet of this emulator goes on with the bootstrap token: differences page.
  if (boot.config.bootstrapToken && token === boot.config.bootstrapToken)
    return { name: "system:node:emulated", groups: ["system:nodes", "system:authenticated"] };
  for (const secret of objects.list("/secrets")) {
    if (secret.type !== "kubernetes.io/service-account-token") continue;
    const stored = (secret.data as Record<string, string> | undefined)?.token;
    if (stored && Buffer.from(stored, "base64").toString() === token) {
      const namespace = secret.metadata.namespace ?? "";
      const account = secret.metadata.annotations?.["kubernetes.io/service-account.name"] ?? "";
      return {
        name: `system:serviceaccount:${namespace}:${account}`,
        groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
      };
    }
  }
  return undefined;
}

/** What somebody wants to do. */
export interface Attributes {
  readonly verb: string;
  readonly group: string;
  /** With `/subresource`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

interface Rule {
  verbs?: string[];
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
}

/** RBAC: masters may all, nodes may what nodes need, the others what roles bound to them grant. */
export function authorize(user: User, attributes: Attributes, objects: KubeObjects): boolean {
  if (user.groups.includes("system:masters")) return true;
  if (
    user.groups.includes("system:nodes") &&
    ["nodes", "nodes/status", "pods", "pods/status", "events", "leases"].includes(attributes.resource)
  )
    return true;
  const bound = (binding: KubeObject) => {
    const subjects = (binding.subjects as { kind: string; name: string; namespace?: string }[] | undefined) ?? [];
    return subjects.some(
      (subject) =>
        (subject.kind === "User" && subject.name === user.name) ||
        (subject.kind === "Group" && user.groups.includes(subject.name)) ||
        (subject.kind === "ServiceAccount" &&
          user.name === `system:serviceaccount:${subject.namespace ?? binding.metadata.namespace}:${subject.name}`),
    );
  };
  const rules = (binding: KubeObject): Rule[] => {
    const reference = binding.roleRef as { kind?: string; name?: string } | undefined;
    const role = objects.get(
      `rbac.authorization.k8s.io/${reference?.kind === "Role" ? "roles" : "clusterroles"}`,
      reference?.kind === "Role" ? (binding.metadata.namespace ?? "") : "",
      reference?.name ?? "",
    );
    return (role?.rules as Rule[] | undefined) ?? [];
  };
  const bindings = [
    ...objects.list("rbac.authorization.k8s.io/clusterrolebindings"),
    ...(attributes.namespace ? objects.list("rbac.authorization.k8s.io/rolebindings", attributes.namespace) : []),
  ];
  return bindings.filter(bound).some((binding) => rules(binding).some((rule) => allows(rule, attributes)));
}

function allows(rule: Rule, attributes: Attributes): boolean {
  const has = (list: string[] | undefined, value: string) => list?.includes("*") || list?.includes(value) || false;
  return (
    has(rule.verbs, attributes.verb) &&
    has(rule.apiGroups, attributes.group) &&
    has(rule.resources, attributes.resource) &&
    (!rule.resourceNames?.length || rule.resourceNames.includes(attributes.name))
  );
}
