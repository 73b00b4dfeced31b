import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { after, test } from "node:test";
import { toJsonString } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { parse } from "yaml";
import { ResourceSchema, State as StateService } from "#gen/cosi/resource/resource_pb.ts";
import { SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { PlaneKeyKind } from "#kinds/access/plane-key.ts";
import { allKinds, kindOf } from "#kinds/all.ts";
import { ClusterMachineConfigKind } from "#kinds/cluster/cluster-machine-config.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { NodeUniqueTokenKind } from "#kinds/machine/node-unique-token.ts";
import { systemClock } from "#lib/clock.ts";
import { createSeal } from "#store/seal.ts";
import { openSqliteStore } from "#store/sqlite.ts";
import { State } from "#store/state.ts";
import { decodeSecrets } from "#talos/secrets.ts";
import { TestPlane, template } from "./harness.ts";

// Every secret that there is, looked for everywhere that it must not be.

process.env.ICHOR_LOG = "debug";
const plane = new TestPlane("canary");
after(() => plane.stop());

/** What was said or kept, by where. */
const seen = new Map<string, string>();
const keep = (where: string, content: string | Uint8Array) =>
  seen.set(
    where,
    (seen.get(where) ?? "") + (typeof content === "string" ? content : Buffer.from(content).toString("latin1")),
  );
const file = (name: string, text: string) => {
  writeFileSync(join(plane.data, name), text);
  return join(plane.data, name);
};
/** Runs a command and keeps what it said. */
async function run(expected: number | undefined, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await plane.cli(...args);
  if (expected !== undefined) assert.equal(code, expected, `${args.join(" ")}: ${stderr}`);
  keep(`ichor ${args[0]} ${args[1] ?? ""}`, stdout + stderr);
  return stdout;
}

/** A secret by name, and where it may be. */
interface Secret {
  readonly name: string;
  readonly text: string;
  readonly allowed: RegExp;
}
const secrets: Secret[] = [];
const nowhere = /^$/;
function secret(name: string, text: string, allowed = nowhere): string {
  assert.ok(text.length >= 16, `${name} is too short to be looked for`);
  secrets.push({ name, text, allowed });
  return text;
}

/** What a secret may look like: as it is, in base64 of either kind, in hex, its bytes; of keys in PEM each line. */
function* formsOf(text: string): Generator<string> {
  if (text.includes("-----BEGIN")) {
    for (const line of text.split("\n")) if (/^[A-Za-z0-9+/=]{40,}$/.test(line)) yield line;
    // The first bytes are the same in all keys.
    yield Buffer.from(text).toString("base64").slice(80, 160);
    return;
  }
  yield text;
  yield Buffer.from(text).toString("base64").replace(/=+$/, "");
  yield Buffer.from(text).toString("base64url");
  yield encodeURIComponent(text);
  const bytes = /^[A-Za-z0-9+/]{43}=$/.test(text) ? Buffer.from(text, "base64") : undefined;
  if (bytes) yield bytes.toString("hex");
  if (bytes) yield bytes.toString("latin1");
}

test("a plane, a machine and a cluster, used and misused", { timeout: 120_000 }, async () => {
  const link = await plane.start();
  const code = secret("sign-in code", new URL(link).searchParams.get("code") ?? "");
  const [machine = ""] = await plane.emulate(1);
  await run(0, "machine", "wait", "--count", "1", "--timeout", "60s");
  const password = secret(
    "password in a patch",
    `hunter2-${randomBytes(12).toString("hex")}`,
    /^(ConfigPatches|file (kiosk|bad))/,
  );
  const patch = `patches:
  - name: registry
    inline:
      machine:
        registries:
          config:
            registry.example:
              auth: { username: kiosk, password: ${password} }
`;
  const path = file("kiosk.yaml", template("kiosk", [machine], [], patch));
  await run(0, "template", "sync", path, "--wait", "--timeout", "60s");

  // Everything that can be asked for, as an administrator, who may see most.
  const token = secret(
    "administrator's token",
    readFileSync(join(plane.data, "admin.token"), "utf8").trim(),
    /^file admin\.token$/,
  );
  const { api } = JSON.parse(readFileSync(join(plane.data, "plane.json"), "utf8")) as { api: string };
  const ca = readFileSync(join(plane.data, "ca.crt"), "utf8");
  const sessionManager = new Http2SessionManager(api, {}, { ca });
  const transport = createGrpcTransport({
    baseUrl: api,
    sessionManager,
    interceptors: [
      (next) => (call) => {
        call.header.set("authorization", `Bearer ${token}`);
        return next(call);
      },
    ],
  });
  const state = createClient(StateService, transport);
  for (const kind of allKinds) {
    const name = kind.type.split(".")[0] ?? "";
    try {
      for await (const { resource } of state.list({ namespace: kind.namespace, type: kind.type })) {
        keep(name, resource?.spec?.protoSpec ?? "");
        keep(name, toJsonString(ResourceSchema, resource!));
        keep(name, resource?.spec?.yamlSpec ?? "");
      }
      assert.notEqual(kind.read, "nobody", `${kind.type} are shown`);
    } catch (error) {
      assert.ok(kind.read === "nobody" && error instanceof ConnectError, String(error));
      keep(`${name} (refused)`, String(error));
    }
  }
  await run(0, "get", "links", "-o", "yaml");
  await run(0, "get", "RedactedClusterMachineConfigs", "--json");
  await run(0, "machine", "logs", machine);
  await run(0, "machine", "get", machine, "--json");
  await run(0, "debug", "controllers", "--json");
  await run(0, "cluster", "status", "kiosk", "--json");

  // Access that was made for one caller holds keys of its own: nothing else may hold them.
  const kubeconfig = parse(await run(0, "kubeconfig", "--cluster", "kiosk", "--stdout"));
  secret("token of a kubeconfig", kubeconfig.users[0].user.token, /^ichor kubeconfig/);
  const talosconfig = parse(await run(0, "talosconfig", "--stdout"));
  const own = talosconfig.contexts[talosconfig.context];
  secret("key of a talosconfig", Buffer.from(own.key, "base64").toString(), /^ichor talosconfig/);
  const session = await createClient(SessionService, transport).signIn({ code });
  secret("session of a browser", session.token);

  // What goes wrong is told in words, and must not repeat what it was given.
  const guess = secret("guessed token", randomBytes(32).toString("base64url"), /^guesses$/);
  const replies = await Promise.all(
    ["/cosi.resource.State/Get", "/k8s/clusters/kiosk/api", "/metrics", `/k8s/clusters/kiosk/api?token=${guess}`].map(
      (target) => get(api, ca, target, guess),
    ),
  );
  keep("refusals", replies.join("\n"));
  assert.equal(
    (
      await createClient(SessionService, transport)
        .signIn({ code: guess })
        .catch((error) => String(error))
    )
      .toString()
      .includes(guess),
    false,
  );
  await createClient(SessionService, transport)
    .signIn({ code })
    .catch((error) => keep("refusals", String(error)));
  sessionManager.abort();
  const worse = template("kiosk", [machine], [], patch.replace(password, `${password}-changed`));
  await run(0, "template", "diff", file("kiosk2.yaml", worse));
  const bad = template("kiosk", [machine], [], patch.replace("machine:", `machine:\n        token: ${password}`));
  await run(undefined, "template", "validate", file("bad.yaml", bad));
  await run(undefined, "template", "sync", join(plane.data, "bad.yaml"));
  const { id: revoked } = await plane.json<{ id: string }>("token", "create", "visitors");
  secret("revoked join token", revoked, tokenPlaces);
  const args = (await plane.cli("join", "--kernel-args", "--token", revoked)).stdout.trim();
  await run(0, "token", "revoke", revoked, "--yes");
  await run(6, "join", "--kernel-args", "--token", revoked);
  await plane.emulate(1, "--kernel-args", args, "--seed", "late");
  await plane.logged(/machine not admitted/);
});

/** Kinds about join tokens name them, and administrators may read those. */
const tokenPlaces = /^(JoinTokens|JoinTokenStatuses|JoinTokenUsages|DefaultJoinTokens)$/;

test("the plane keeps all of them, sealed", { timeout: 30_000 }, async () => {
  await plane.kill();
  for (const name of readdirSync(plane.data, { recursive: true, encoding: "utf8" })) {
    const full = join(plane.data, name);
    if (statSync(full).isFile()) keep(name === "test.log" ? "the plane's log" : `file ${name}`, readFileSync(full));
  }
  const masterKey = secret(
    "master key",
    readFileSync(join(plane.data, "master.key"), "utf8").trim(),
    /^file master\.key$/,
  );
  const store = await openSqliteStore({
    path: join(plane.data, "ichor.db"),
    clock: systemClock,
    seal: createSeal(Buffer.from(masterKey, "base64")),
    isSealed: (type) => kindOf(type)?.sealed ?? false,
    hidesId: (type) => kindOf(type)?.secretId ?? false,
  });
  const state = new State(store);
  try {
    for (const { metadata } of await state.list(JoinTokenKind))
      if (!secrets.some(({ text }) => text === metadata.id)) secret("join token", metadata.id, tokenPlaces);
    for (const { spec } of await state.list(NodeUniqueTokenKind)) {
      secret("unique token", spec.token);
      secret("inside a unique token", (JSON.parse(spec.token) as { Token: string }).Token);
    }
    for (const { metadata, spec } of await state.list(PlaneKeyKind)) {
      const text = Buffer.from(spec.data).toString();
      secret(`plane key ${metadata.id}`, metadata.id === "ca" ? (JSON.parse(text) as { key: string }).key : text);
    }
    for (const { spec } of await state.list(ClusterSecretsKind)) {
      const bundle = decodeSecrets(spec.data);
      for (const name of [
        "clusterSecret",
        "bootstrapToken",
        "secretboxEncryptionSecret",
        "trustdToken",
        "serviceAccountKey",
      ] as const)
        secret(name, bundle[name]);
      for (const name of ["etcd", "kubernetes", "aggregator", "os"] as const)
        secret(`key of ${name}`, bundle[name].key);
    }
    for (const { spec } of await state.list(ClusterMachineConfigKind))
      secret("machine configuration", Buffer.from(spec.data).toString("latin1").slice(-200));
  } finally {
    await store.close();
  }
  const names = new Set(secrets.map(({ name }) => name));
  for (const name of ["join token", "unique token", "plane key wireguard", "plane key ca", "trustdToken", "key of os"])
    assert.ok(names.has(name), `there is no ${name}: this test looks for nothing`);
});

test("none of them is where it must not be", () => {
  assert.ok(seen.size > 60, `only ${seen.size} places were looked at`);
  const found = new Set<string>();
  for (const { name, text, allowed } of secrets) {
    for (const form of formsOf(text))
      for (const [where, content] of seen)
        if (!allowed.test(where) && content.includes(form)) found.add(`${name} in ${where}`);
  }
  assert.deepEqual([...found], []);
});

test("what is looked for is found where it may be: the forms are right", () => {
  for (const [name, where] of [
    ["join token", "JoinTokens"],
    ["administrator's token", "file admin.token"],
    ["password in a patch", "file kiosk.yaml"],
    ["key of a talosconfig", "ichor talosconfig --stdout"],
    ["token of a kubeconfig", "ichor kubeconfig --cluster"],
    ["password in a patch", "ConfigPatches"],
  ]) {
    const { text } = secrets.find((one) => one.name === name)!;
    assert.ok(
      [...formsOf(text)].some((form) => seen.get(where!)?.includes(form)),
      `${name} is not in ${where}`,
    );
  }
});

/** An answer as one text, head and body. */
function get(api: string, ca: string, path: string, token: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const method = path.startsWith("/cosi") ? "POST" : "GET";
    const call = request(api, { path, method, ca, headers, agent: false }, (response) => {
      let text = `${response.statusCode} ${JSON.stringify(response.headers)}\n`;
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve(text));
    });
    call.on("error", reject);
    call.end(method === "POST" ? "{}" : undefined);
  });
}
