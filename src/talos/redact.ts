import { type Document, isAlias, isNode, isScalar, parseAllDocuments, Scalar, visit } from "yaml";

/** Keys whose values are secrets wherever they stand in a configuration. */
const secretKeys =
  /^(key|auth|apiUrl|contents?)$|(token|secret|password|passphrase|(private|preshared|secret|access|api|auth|account)[-_]?key)$/i;
/** Of these, the ones that are texts of people: what they hold is not looked for elsewhere. */
const proseKeys = /^(apiUrl|contents?)$/i;
/** Shorter secrets are not looked for elsewhere: too much else is the same by chance. */
const shortest = 16;

/** What stands for a secret. */
export const redacted = "******";

/** A configuration or patch without its secrets; comments go too, they may repeat them. What is no YAML vanishes as a whole. */
export function redact(text: string): string {
  try {
    const parsed = parseAllDocuments(text, { logLevel: "silent" });
    const documents = Array.isArray(parsed) ? parsed : [];
    if (documents.some(({ errors }) => errors.length > 0)) return redacted;
    for (const document of documents) spread(document);
    const secrets = new Set<string>();
    for (const document of documents) hide(document, secrets);
    for (const document of documents) hideRepeats(document, secrets);
    return documents.map((document) => document.toString({ lineWidth: 0 })).join("");
  } catch {
    return redacted;
  }
}

/** Writes out what aliases stand for: the anchor of one may be a secret. */
function spread(document: Document): void {
  let shared = false;
  visit(document, {
    Node(_, node) {
      shared ||= isAlias(node) || node.anchor !== undefined;
    },
  });
  if (!shared) return;
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  document.contents = document.createNode(value, { aliasDuplicateObjects: false }) as never;
}

function hide(document: Document, secrets: Set<string>): void {
  document.commentBefore = null;
  document.comment = null;
  visit(document, {
    Node(_, node) {
      node.comment = null;
      node.commentBefore = null;
      if (isScalar(node) && typeof node.value === "string") node.value = withoutSecrets(node.value);
    },
    Pair(_, pair) {
      const key = isScalar(pair.key) ? String(pair.key.value) : "";
      if (!secretKeys.test(key) || isEmpty(pair.value)) return;
      if (!proseKeys.test(key)) note(pair.value, secrets);
      pair.value = new Scalar(redacted);
    },
  });
}

/** Nothing to hide: no value, an empty text, a switch. */
function isEmpty(value: unknown): boolean {
  return isScalar(value) ? value.value === "" || value.value === null || typeof value.value === "boolean" : !value;
}

function note(value: unknown, secrets: Set<string>): void {
  if (!isNode(value)) return;
  visit(value, {
    Scalar(_, node) {
      const text = String(node.value);
      if (text.length >= shortest) secrets.add(text);
    },
  });
}

/** Secrets that show by their form. */
function withoutSecrets(text: string): string {
  if (/PRIVATE KEY-----|jointoken=/i.test(text)) return redacted;
  if (/^LS0tLS1CRUdJTi/.test(text) && Buffer.from(text, "base64").includes("PRIVATE KEY-----")) return redacted;
  const [, variable] = /^(\w{1,128})=./.exec(text) ?? [];
  if (variable && /TOKEN|SECRET|PASSW|KEY/i.test(variable)) return `${variable}=${redacted}`;
  return text.replace(/:\/\/[^/\s:@]*:[^/\s@]+@/g, `://${redacted}@`);
}

function hideRepeats(document: Document, secrets: ReadonlySet<string>): void {
  if (secrets.size === 0) return;
  visit(document, {
    Scalar(_, node) {
      const { value } = node;
      if (typeof value !== "string" || value.length < shortest) return;
      for (const secret of secrets) if (value.includes(secret)) node.value = redacted;
    },
  });
}
