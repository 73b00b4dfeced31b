import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { codeOf } from "#lib/errors.ts";
import type { State } from "#store/state.ts";
import { makeJoinToken } from "./join-token.ts";

/** Makes the first join token and names it the default, once. Users own both from then on. */
export async function ensureDefaultToken(state: State): Promise<void> {
  const users = state.as("");
  if (await users.get(DefaultJoinTokenKind, "default")) return;
  const [existing] = await users.list(JoinTokenKind);
  const tokenId = existing?.metadata.id ?? makeJoinToken();
  try {
    if (!existing) await users.create(JoinTokenKind, tokenId, { name: "initial join token" });
    await users.create(DefaultJoinTokenKind, "default", { tokenId });
  } catch (error) {
    if (codeOf(error) !== "already_exists") throw error;
  }
}
