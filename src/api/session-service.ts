import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { isSameOrigin, sessionCookie } from "#guard/credential.ts";
import type { Sessions } from "#guard/sessions.ts";
import { IchorError } from "#lib/errors.ts";
import { callerOf } from "./authentication.ts";

/** Sessions of the console and the CLI. `url` is where people reach the plane. */
export function sessionService(sessions: Sessions, url: () => URL): ServiceImpl<typeof SessionService> {
  return {
    async signIn({ code }, { requestHeader, responseHeader }) {
      const header = (name: string) => requestHeader.get(name) ?? undefined;
      // Browsers alone send this header. Their scripts are not told the token: the cookie is out of their reach.
      const browser = requestHeader.has("sec-fetch-site");
      if (browser && !isSameOrigin(header))
        throw new IchorError("permission_denied", "the request was made by a page of another site");
      const { token, identity, role, expires } = await sessions.signIn(code);
      responseHeader.append("set-cookie", sessionCookie(token, expires));
      return { token: browser ? "" : token, identity, role, expires: timestampFromMs(expires) };
    },
    async signOut(_request, { values, responseHeader }) {
      await sessions.signOut(callerOf(values).session);
      responseHeader.append("set-cookie", sessionCookie());
      return {};
    },
    whoAmI(_request, { values }) {
      const { identity, role } = callerOf(values);
      return { identity, role };
    },
    async createSignInLink(_request, { values }) {
      const { identity, role } = callerOf(values);
      const { token } = await sessions.createSignInCode(identity, role);
      return { url: `${url().origin}/signin?code=${token}` };
    },
  };
}
