import { isMap, isScalar, parseAllDocuments, Scalar, visit } from "yaml";

/** Keys whose values are secrets wherever they stand in a configuration. */
const secretKeys =
  /^(key|token|secret|password|privateKey|private_key|identityToken|accountKey|aescbcEncryptionSecret|secretboxEncryptionSecret|bootstrapToken|joinToken|uniqueToken|passphrase|presharedKey|auth|secretKey|apiUrl|PRIVATE_KEY|contents|content)$/i;

/** What stands for a secret. */
export const redacted = "******";

/** A configuration or patch without its secrets; comments go too, they may repeat them. What is no YAML vanishes as a whole. */
export function redact(text: string): string {
  const parsed = parseAllDocuments(text, { logLevel: "silent" });
  const documents = Array.isArray(parsed) ? parsed : [];
  if (documents.some(({ errors }) => errors.length > 0)) return redacted;
  for (const document of documents) {
    document.commentBefore = null;
    document.comment = null;
    visit(document, {
      Node(_, node) {
        node.comment = null;
        node.commentBefore = null;
        if (isScalar(node) && typeof node.value === "string" && /PRIVATE KEY-----|jointoken=/.test(node.value))
          node.value = redacted;
      },
      Pair(_, pair) {
        if (!isScalar(pair.key) || !secretKeys.test(String(pair.key.value))) return;
        if (isScalar(pair.value) && pair.value.value !== "" && pair.value.value !== null)
          pair.value = new Scalar(redacted);
        else if (isMap(pair.value) && /^(secret|auth)$/i.test(String(pair.key.value)))
          pair.value = new Scalar(redacted);
      },
    });
  }
  return documents.map((document) => document.toString({ lineWidth: 0 })).join("");
}
