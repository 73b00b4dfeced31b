import tab from "@bomb.sh/tab/commander";
import { Command } from "commander";
import { version } from "#lib/version.ts";
import { joinCommand, kubeconfig, signin, talosconfig } from "./commands/access.ts";
import { cluster } from "./commands/cluster.ts";
import { debug } from "./commands/debug.ts";
import { emulate } from "./commands/emulate.ts";
import { get } from "./commands/get.ts";
import { machine } from "./commands/machine.ts";
import { template } from "./commands/template.ts";
import { token } from "./commands/token.ts";
import { up } from "./commands/up.ts";

/** Everything that `ichor` can be told. */
export const program: Command = new Command("ichor")
  .description("The open management plane for fleets of Talos Linux machines at the edge")
  .version(version)
  .showSuggestionAfterError()
  .addHelpText(
    "after",
    "\nStart here: ichor up --demo\nExit codes: 0 done, 1 failed, 2 wrong input, 3 not found, 4 not allowed, 5 plane not reachable, 6 conflict, 130 interrupted.",
  );
for (const command of [
  up,
  machine,
  cluster,
  template,
  token,
  joinCommand,
  kubeconfig,
  talosconfig,
  signin,
  get,
  debug,
  emulate,
])
  program.addCommand(command);
tab(program, { completionCommandName: "completion" });

/** The program, its nouns and all verbs. */
export const allCommands: readonly Command[] = [
  program,
  ...program.commands,
  ...program.commands.flatMap((noun) => noun.commands),
];
for (const command of allCommands) command.exitOverride();
