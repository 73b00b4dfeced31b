import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { confirm, noun, verb } from "#cli/command.ts";
import { answer, print, printJson, say } from "#cli/output.ts";
import { milliseconds } from "#cli/progress.ts";
import { toWanted } from "#cli/wanted.ts";
import { JoinTokenStatusSpec_StateSchema } from "#gen/specs/specs_pb.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { JoinTokenStatusKind } from "#kinds/machine/join-token-status.ts";
import { IchorError } from "#lib/errors.ts";

const list = verb("list", "tokens that let machines join", async ({ plane, json }) => {
  answer(await plane.state.list(JoinTokenStatusKind), {
    json,
    toJson: ({ metadata, spec }) => ({
      id: metadata.id,
      name: spec.name,
      state: JoinTokenStatusSpec_StateSchema.value[spec.state]?.localName,
      default: spec.isDefault,
      machines: Number(spec.useCount),
      expires: spec.expirationTime ? timestampDate(spec.expirationTime).toISOString() : null,
    }),
    empty: 'There is no join token. "ichor token create NAME" makes one.',
    columns: [
      ["ID", ({ metadata }) => metadata.id],
      ["NAME", ({ spec }) => spec.name],
      ["STATE", ({ spec }) => JoinTokenStatusSpec_StateSchema.value[spec.state]?.localName],
      ["DEFAULT", ({ spec }) => (spec.isDefault ? "yes" : "")],
      ["MACHINES", ({ spec }) => String(spec.useCount)],
      ["EXPIRES", ({ spec }) => (spec.expirationTime ? timestampDate(spec.expirationTime).toISOString() : "never")],
    ],
  });
});

const create = verb<{ ttl?: string }>(
  "create <name>",
  "make a join token; its text is the answer",
  async ({ plane, json }, options, name = "") => {
    const expirationTime = options.ttl ? timestampFromMs(Date.now() + milliseconds(options.ttl)) : undefined;
    const { id } = await plane.management.createJoinToken({ name, ...(expirationTime ? { expirationTime } : {}) });
    if (json) printJson({ id, name });
    else print(id);
  },
).option("--ttl <duration>", "valid that long, such as 24h; default for ever");

const revoke = verb<{ yes?: boolean }>(
  "revoke <id>",
  "let no further machine join with a token; those that joined stay",
  async ({ plane }, options, id = "") => {
    const current = await plane.state.get(JoinTokenKind, id);
    if (!current) throw new IchorError("not_found", "there is no such join token; see: ichor token list");
    await confirm(`Revoke the join token "${current.spec.name}"?`, options.yes);
    await plane.state.update(
      toWanted(JoinTokenKind, current, (spec) => ({ ...spec, revoked: true })),
      current,
    );
    say("The token is revoked.");
  },
).option("--yes", "do not ask");

/** `ichor token …` */
export const token: Command = noun("token", "join tokens").addCommand(list).addCommand(create).addCommand(revoke);
