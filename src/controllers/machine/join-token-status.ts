import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { JoinTokenStatusSpec_State } from "#gen/specs/specs_pb.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { JoinTokenStatusKind } from "#kinds/machine/join-token-status.ts";
import { JoinTokenUsageKind } from "#kinds/machine/join-token-usage.ts";

/** Longest wait of a timer. */
const day = 24 * 3_600_000;

/** Tells of each join token whether it lets machines in, and how many came with it. */
export function joinTokenStatusController(): Controller {
  return transform({
    name: "join-token-status",
    purpose: "Tells whether a join token is active, and how many machines came with it.",
    input: JoinTokenKind,
    output: JoinTokenStatusKind,
    inputs: [
      {
        kind: DefaultJoinTokenKind,
        wakes: async (_metadata, reader) => (await reader.list(JoinTokenKind)).map(({ metadata }) => metadata.id),
      },
      {
        kind: JoinTokenUsageKind,
        wakes: async ({ id }, reader) => {
          const usage = await reader.get(JoinTokenUsageKind, id);
          return usage ? [usage.spec.tokenId] : [];
        },
      },
    ],
    async transform(context, { metadata, spec }) {
      const usages = await context.list(JoinTokenUsageKind);
      const isDefault = (await context.get(DefaultJoinTokenKind, "default"))?.spec.tokenId === metadata.id;
      const left = spec.expirationTime
        ? timestampDate(spec.expirationTime).getTime() - context.clock.now()
        : Number.POSITIVE_INFINITY;
      if (left > 0 && left < Number.POSITIVE_INFINITY) context.again(Math.min(left + 1, day));
      return (draft) => {
        draft.spec.state = spec.revoked
          ? JoinTokenStatusSpec_State.REVOKED
          : left <= 0
            ? JoinTokenStatusSpec_State.EXPIRED
            : JoinTokenStatusSpec_State.ACTIVE;
        draft.spec.isDefault = isDefault;
        draft.spec.useCount = BigInt(usages.filter((usage) => usage.spec.tokenId === metadata.id).length);
        if (spec.expirationTime) draft.spec.expirationTime = spec.expirationTime;
        draft.spec.name = spec.name;
      };
    },
  });
}
