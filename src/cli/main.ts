import tab from "@bomb.sh/tab/commander";
import { Command, CommanderError } from "commander";
import { joinCommand, kubeconfig, signin, talosconfig } from "./commands/access.ts";
import { cluster } from "./commands/cluster.ts";
import { debug } from "./commands/debug.ts";
import { emulate } from "./commands/emulate.ts";
import { get } from "./commands/get.ts";
import { machine } from "./commands/machine.ts";
import { template } from "./commands/template.ts";
import { token } from "./commands/token.ts";
import { up } from "./commands/up.ts";

const program = new Command("ichor")
  .description("The open management plane for fleets of Talos Linux machines at the edge")
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

for (const command of [program, ...program.commands, ...program.commands.flatMap((noun) => noun.commands)])
  command.exitOverride();
try {
  await program.parseAsync();
} catch (error) {
  // Commander has already told the person what was wrong.
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
