import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Command } from "commander";
import { defaultData } from "#cli/plane.ts";
import { allCommands, program } from "#cli/program.ts";
import { type Said, said, TestPlane, template } from "./harness.ts";

// What the command line says: help, exit codes, words of refusals, JSON. Scripts and people count on all of it.

const root = mkdtempSync(join(tmpdir(), "ichor-cli-"));
after(() => rmSync(root, { recursive: true, force: true }));
const nowhere = join(root, "no-plane");
const file = (name: string, text: string) => {
  writeFileSync(join(root, name), text);
  return join(root, name);
};
const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const ichor = (...args: string[]) => said(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args]);

/** A command line, its exit code, and what it says on the way that is meant for it. */
type Case = readonly [args: readonly string[], code: number, words: RegExp];
async function check(run: (...args: string[]) => Promise<Said>, cases: readonly Case[]): Promise<void> {
  // Two at a time: processes take longer to start than to answer.
  const queue = [...cases];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [args, code, words] = next;
      const { code: got, stdout, stderr } = await run(...args);
      const at = `ichor ${args.join(" ")}: ${got}\n${stderr}`;
      assert.equal(got, code, at);
      assert.match(stderr, words, at);
      assert.doesNotMatch(stderr, /\n {4}at |node:internal/, "a stack is shown");
      // The answer goes to stdout alone; problems of a template are the answer.
      if (code !== 0 && args[1] !== "validate") assert.equal(stdout, "", at);
    }
  };
  await Promise.all([worker(), worker()]);
}

function fullName(command: Command): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name();
}

test("the help of every command is the one that is written down", () => {
  const golden = join(import.meta.dirname, "golden/help.txt");
  const shown = [...new Set(allCommands)]
    .filter((command) => command.name() !== "complete")
    .map((command) => {
      // Whoever runs this has a home of their own, which must not break lines elsewhere.
      for (const option of command.options)
        if (option.defaultValue === defaultData) option.defaultValueDescription = "~/.local/share/ichor";
      const text = command.configureHelp({ helpWidth: 100 }).helpInformation();
      return `$ ${fullName(command)} --help\n${text}`;
    });
  const text = shown.join("\n");
  // Written anew where it is missing: `rm` it to take a change over.
  if (!existsSync(golden)) writeFileSync(golden, text);
  assert.equal(
    text,
    readFileSync(golden, "utf8"),
    `help changed: if that is meant, remove ${golden} and run this again`,
  );
});

test("every command and option says what it is for", () => {
  assert.ok(allCommands.length > 30);
  for (const command of allCommands) {
    assert.ok(command.description(), `${fullName(command)} has no description`);
    for (const { flags, description } of command.options) assert.ok(description, `${fullName(command)} ${flags}`);
  }
  assert.equal(program.name(), "ichor");
});

test("wrong input is 2, and says what is right", { timeout: 60_000 }, async () => {
  const none = ["--data", nowhere];
  await check(ichor, [
    [[], 2, /Usage: ichor/],
    [["frobnicate"], 2, /unknown command 'frobnicate'/],
    [["machin", "list"], 2, /Did you mean machine\?/],
    [["machine", "lst"], 2, /Did you mean list\?/],
    [["machine", "list", "--bogus"], 2, /unknown option '--bogus'/],
    [["machine", "get"], 2, /missing required argument 'id'/],
    [["machine", "get", "a", "b"], 2, /too many arguments/],
    [["kubeconfig", ...none], 2, /required option '-c, --cluster <name>'/],
    [["get", "cluste", ...none], 2, /no type "cluste"; did you mean cluster\?/],
    [["machine", "wait", "--count", "none", ...none], 2, /--count: "none" is not a number from 1 on/],
    [["machine", "wait", "--count", "1", "--timeout", "5", ...none], 2, /"5" is not a duration such as 90s/],
    [["up", "--listen", "nonsense", ...none], 2, /--listen: "nonsense" is not HOST:PORT/],
    [["up", "--machine-api", "1.2.3.4:99999", ...none], 2, /--machine-api: /],
    [["up", "--link", "carrier-pigeon", ...none], 2, /--link: .*user.*kernel/],
    [["up", "--advertise", "http://plain.example", ...none], 2, /--advertise: .*is not a URL/],
    [["up", "--data", file("a-file", "")], 4, /data directory .*a-file cannot be used/],
    // Where no directory can be made: Node's own way of making one would go on for ever.
    [["up", "--data", "/proc/ichor"], 4, /data directory \/proc\/ichor cannot be used/],
    [["emulate"], 2, /say where to join: --api, or --kernel-args/],
    [["emulate", "--count", "0"], 2, /--count: "0" is not a number/],
    [["emulate", "--delays", "some", "--api", "grpc://127.0.0.1:1"], 2, /--delays: "some" is neither real nor none/],
    [["template", "sync", ...none], 2, /name a template: ichor template sync FILE/],
    [["template", "validate", join(root, "none.yaml")], 2, /cannot read .*none\.yaml: there is no such file/],
    [["completion", "tcsh"], 2, /Allowed choices are zsh, bash, fish/],
  ]);
});

test("a plane that is not there is 5, and says how to start one", { timeout: 60_000 }, async () => {
  const dead = mkdtempSync(join(root, "dead-"));
  writeFileSync(join(dead, "plane.json"), JSON.stringify({ api: "https://127.0.0.1:1" }));
  for (const name of ["ca.crt", "admin.token"]) writeFileSync(join(dead, name), "");
  const torn = mkdtempSync(join(root, "torn-"));
  writeFileSync(join(torn, "plane.json"), "{");
  const start = /no plane has run with the data directory .*: start one with "ichor up", or name another with --data/;
  const again = new RegExp(
    `does not run \\(nothing answers at https://127\\.0\\.0\\.1:1\\): start it with "ichor up --data ${dead}"`,
  );
  await check(ichor, [
    ...["machine list", "signin", "join"].map((line): Case => [[...line.split(" "), "--data", nowhere], 5, start]),
    [["cluster", "delete", "shop", "--yes", "--data", nowhere], 5, start],
    [["machine", "list", "--data", dead], 5, again],
    [["cluster", "status", "shop", "--wait", "--data", dead], 5, again],
    [["get", "clusters", "--watch", "--data", dead], 5, again],
    [["machine", "list", "--data", torn], 5, /plane\.json is damaged: "ichor up" writes it again/],
  ]);
});

test("a template is checked without a plane: file, line, column and what to do", { timeout: 60_000 }, async () => {
  const id = "00000000-0000-4000-8000-000000000001";
  const good = template("shop", [id], []);
  const cases: [name: string, text: string, problem: RegExp][] = [
    ["even.yaml", template("shop", [id, id.replace(/1$/, "2")], []), /even\.yaml:9:1: machines: .*even.*use 1 or 3/],
    [
      "field.yaml",
      good.replace("  version: v1.13.9", "  versoin: v1.13.9"),
      /field\.yaml:6:3: talos\.versoin: .*did you mean version\?/,
    ],
    ["kind.yaml", good.replace("ControlPlane", "ControlPlain"), /kind\.yaml:8:\d+: .*did you mean ControlPlane\?/],
    ["yaml.yaml", `${good}  - [\n`, /yaml\.yaml:1\d:\d+: .*; correct the YAML/],
    ["empty.yaml", "", /empty\.yaml:1:1: /],
    [
      "patch.yaml",
      template("shop", [id], [], "patches:\n  - file: none.yaml\n"),
      /patch\.yaml:8:\d+: patches\[0\]\.file: cannot read none\.yaml.*relative to the template/,
    ],
    ["version.yaml", good.replace("v1.36.3", "v1.20.0"), /version\.yaml:4:\d+: kubernetes\.version: /],
  ];
  for (const [name, text, problem] of cases) {
    const path = file(name, text);
    const { code, stdout, stderr } = await ichor("template", "validate", path);
    assert.equal(code, 2, `${name}: ${stdout}${stderr}`);
    assert.match(stdout, problem);
    assert.match(stderr, new RegExp(`${name} has (a problem|\\d+ problems)`));
  }
  const path = file("good.yaml", good);
  const { code, stdout, stderr } = await ichor("template", "validate", path);
  assert.deepEqual([code, stdout, stderr], [0, "", `${path} is valid.\n`]);
  const even = await ichor("template", "validate", join(root, "even.yaml"), "--json");
  const [problem] = JSON.parse(even.stdout) as Record<string, unknown>[];
  assert.deepEqual(Object.keys(problem ?? {}).sort(), ["column", "file", "fix", "line", "message", "path"]);
  const rendered = await ichor("template", "render", path, "--json");
  const resources = JSON.parse(rendered.stdout) as { metadata: { type: string } }[];
  assert.deepEqual(
    resources.map(({ metadata }) => metadata.type.split(".")[0]),
    ["Clusters", "MachineSets", "MachineSetNodes"],
  );
});

test("shells complete commands with what ichor prints", { timeout: 60_000 }, async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { code, stdout } = await ichor("completion", shell);
    assert.equal(code, 0);
    assert.ok(stdout.length > 500, stdout);
    const script = file(`completion.${shell}`, stdout);
    const ran = spawnSync(shell, shell === "bash" ? ["-eu", script] : ["-n", script], { encoding: "utf8" });
    // Only the shells that are there can be asked.
    if (ran.error) continue;
    assert.deepEqual([ran.status, ran.stderr], [0, ""], shell);
  }
  const words = async (...typed: string[]) => {
    const { stdout } = await ichor("complete", "--", ...typed);
    return stdout.split("\n").map((line) => line.split("\t")[0]);
  };
  assert.ok((await words("mach")).includes("machine"));
  const verbs = await words("machine", "");
  for (const verb of ["list", "get", "logs", "wait", "forget"]) assert.ok(verbs.includes(verb), verbs.join());
});

describe("with a plane", { timeout: 120_000 }, () => {
  const plane = new TestPlane("cli");
  let machine = "";
  before(async () => {
    await plane.start();
    [machine = ""] = await plane.emulate(1);
    const { code, stderr } = await plane.cli("machine", "wait", "--count", "1", "--timeout", "60s");
    assert.equal(code, 0, stderr);
    const path = file("kiosk.yaml", template("kiosk", [machine], []));
    assert.equal((await plane.cli("template", "sync", path, "--wait", "--timeout", "90s")).code, 0);
  });
  after(() => plane.stop());
  const here = (...args: string[]) => ichor(...args, "--data", plane.data);

  test("what is not there is 3, and says where to look", { timeout: 60_000 }, async () => {
    const noMachine = /there is no machine "none"/;
    const noCluster = /there is no cluster "none"/;
    await check(here, [
      [["machine", "get", "none"], 3, /there is no machine "none"; see: ichor machine list/],
      [["machine", "logs", "none"], 3, noMachine],
      [["machine", "forget", "none", "--yes"], 3, noMachine],
      [["cluster", "status", "none"], 3, noCluster],
      [["cluster", "status", "none", "--wait"], 3, noCluster],
      [["cluster", "delete", "none", "--yes"], 3, noCluster],
      [["kubeconfig", "--cluster", "none", "--stdout"], 3, noCluster],
      [["talosconfig", "--cluster", "none", "--stdout"], 3, noCluster],
      [["get", "clusters", "none"], 3, /there is no Clusters\.omni\.sidero\.dev "none"/],
      [["join", "--token", "none"], 3, /there is no such join token/],
      [["token", "revoke", "none", "--yes"], 3, /there is no such join token; see: ichor token list/],
    ]);
  });

  test("what destroys asks first: without a terminal it is 6, and changes nothing", { timeout: 60_000 }, async () => {
    const yes = /Say --yes to go on: there is no terminal to ask/;
    await check(here, [
      [["cluster", "delete", "kiosk"], 6, yes],
      [["machine", "forget", machine], 6, yes],
      [["template", "delete", join(root, "kiosk.yaml")], 6, yes],
    ]);
    assert.equal((await plane.json<unknown[]>("cluster", "list")).length, 1);
    const second = await ichor(
      "up",
      "--data",
      plane.data,
      "--listen",
      "127.0.0.1:0",
      "--machine-api",
      "127.0.0.1:0",
      "--wireguard",
      "127.0.0.1:0",
    );
    assert.deepEqual(
      [second.code, /another plane runs on the data directory/.test(second.stderr)],
      [6, true],
      second.stderr,
    );
  });

  test("a token that is not good any more is 4", { timeout: 60_000 }, async () => {
    const copy = mkdtempSync(join(root, "copy-"));
    for (const name of ["plane.json", "ca.crt"]) writeFileSync(join(copy, name), readFileSync(join(plane.data, name)));
    writeFileSync(join(copy, "admin.token"), "A".repeat(43));
    await check(ichor, [
      [["machine", "list", "--data", copy], 4, /the session is not valid, or has ended: sign in again/],
    ]);
  });

  test("answers in JSON have the same fields for all time", { timeout: 60_000 }, async () => {
    /** Names of fields, with those of objects inside. */
    const shape = (value: unknown): unknown =>
      Array.isArray(value)
        ? value.slice(0, 1).map(shape)
        : typeof value === "object" && value !== null
          ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shape(inner)]))
          : typeof value;
    const text = "string";
    const machines = { total: "number", healthy: "number", connected: "number" };
    const expected: [args: string[], shape: unknown][] = [
      [
        ["machine", "list"],
        [
          {
            id: text,
            connected: "boolean",
            hostname: text,
            cluster: text,
            stage: text,
            talosVersion: text,
            address: text,
            hardware: text,
            created: text,
          },
        ],
      ],
      [
        ["cluster", "list"],
        [
          {
            name: text,
            phase: text,
            ready: "boolean",
            machines,
            talosVersion: text,
            kubernetesVersion: text,
            created: text,
          },
        ],
      ],
      [
        ["token", "list"],
        [{ id: text, name: text, state: text, default: "boolean", machines: "number", expires: "object" }],
      ],
      [["signin"], { url: text }],
      [["join"], { kernelArgs: [text], config: text }],
      [
        ["debug", "status"],
        { version: text, started: text, memoryBytes: "number", machines: "number", connected: "number" },
      ],
      [["debug", "graph"], { dot: text }],
      [
        ["debug", "controllers"],
        [{ name: text, purpose: text, reconciles: "number", failures: "number", failing: [] }],
      ],
      [["template", "diff", join(root, "kiosk.yaml")], { cluster: text, create: [], update: [], delete: [], kept: [] }],
    ];
    for (const [args, wanted] of expected) {
      const { code, stdout, stderr } = await here(...args, "--json");
      assert.equal(code, 0, stderr);
      // null has no shape: a token that never ends.
      const found = shape(JSON.parse(stdout, (_, value) => (value === null ? {} : value)));
      assert.deepEqual(
        JSON.parse(JSON.stringify(found).replaceAll("{}", '"object"')),
        wanted,
        `ichor ${args.join(" ")} --json`,
      );
    }
    const one = await here("get", "cluster", "kiosk", "--json");
    const { metadata, spec } = JSON.parse(one.stdout) as { metadata: object; spec: object };
    assert.deepEqual(Object.keys(metadata).sort(), [
      "annotations",
      "created",
      "finalizers",
      "id",
      "labels",
      "namespace",
      "owner",
      "phase",
      "type",
      "updated",
      "version",
    ]);
    assert.ok("talosVersion" in spec);
  });
});
