import { IchorError } from "#lib/errors.ts";

/** Name of the session cookie. The prefix makes browsers hold to Secure, no Domain and Path=/ (RFC 6265bis section 4.1.3). */
export const cookieName = "__Host-ichor";

/** A token is 43 characters of base64url. */
const tokenForm = /^[A-Za-z0-9_-]{43}$/;

/**
 * The token of a request: from `authorization: Bearer`, else from the session cookie. Undefined without either. Throws `unauthenticated`
 * for what is no token of ours, `permission_denied` for a cookie on a request that a page of another site made.
 */
export function readCredential(
  header: (name: string) => string | undefined,
): { readonly token: string; readonly from: "header" | "cookie" } | undefined {
  const authorization = header("authorization");
  if (authorization !== undefined) {
    const token = /^bearer +(\S+)$/i.exec(authorization)?.[1] ?? "";
    if (!tokenForm.test(token))
      throw new IchorError("unauthenticated", "the authorization is not a token of this plane");
    return { token, from: "header" };
  }
  const token = cookieOf(header("cookie"));
  if (token === undefined) return undefined;
  if (!tokenForm.test(token))
    throw new IchorError("unauthenticated", "the session is not valid, or has ended: sign in again");
  if (!isSameOrigin(header))
    throw new IchorError("permission_denied", "the request was made by a page of another site");
  return { token, from: "cookie" };
}

/** Whether a browser says that a page of this very origin made the request. A caller that says nothing is not believed. */
export function isSameOrigin(header: (name: string) => string | undefined): boolean {
  const site = header("sec-fetch-site");
  if (site !== undefined) return site === "same-origin";
  const origin = header("origin");
  const host = header("host");
  return origin !== undefined && host !== undefined && origin.toLowerCase() === `https://${host.toLowerCase()}`;
}

/** The `set-cookie` of a session that ends at `expires`; without a token, the one that takes it away. */
export function sessionCookie(token?: string, expires = 0): string {
  const end = new Date(expires).toUTCString();
  return `${cookieName}=${token ?? ""}; Path=/; Expires=${end}; HttpOnly; Secure; SameSite=Strict`;
}

function cookieOf(header: string | undefined): string | undefined {
  for (const part of (header ?? "").split(";")) {
    const at = part.indexOf("=");
    if (at > 0 && part.slice(0, at).trim() === cookieName) return part.slice(at + 1).trim();
  }
  return undefined;
}
