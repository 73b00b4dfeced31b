// Stock talosctl and Talos' published schemas say what a configuration is: whatever is chosen for it, ours is theirs; whatever is patched,
// ours merges as theirs. Cases that are worth a name are in talosctl.test.ts.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { stringify } from "yaml";
import { systemClock } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";
import { type ConfigDocument, printConfig } from "#talos/document.ts";
import { generateConfig } from "#talos/generate.ts";
import { joinDocuments } from "#talos/kernelargs.ts";
import { applyPatches } from "#talos/patch.ts";
import { makeSecrets, type SecretsBundle, toTalosctlSecrets } from "#talos/secrets.ts";
import { patchText } from "./config-patches.ts";
import { normal, normalConfig, openTalosctl, type Talosctl } from "./talos-config.ts";

const contracts = ["1.11", "1.12", "1.13"] as const;
const machineTypes = ["controlplane", "worker"] as const;
type Contract = (typeof contracts)[number];
type MachineType = (typeof machineTypes)[number];
let skip: string | false = false;
let talosctl: Talosctl;
let secrets: SecretsBundle;
let secretsFile = "";

before(async () => {
  secrets = await makeSecrets(systemClock);
  const tool = await openTalosctl();
  if ("skip" in tool) skip = tool.skip;
  else {
    talosctl = tool;
    secretsFile = talosctl.file("secrets.yaml", stringify(toTalosctlSecrets(secrets)));
  }
});
after(() => talosctl?.close());

const join = joinDocuments({
  apiUrl: "grpc://192.0.2.1:8090",
  joinToken: "abc",
  tunnel: true,
  planeAddress: "fdae:41e4:649b:9303::1",
  eventsPort: 8090,
  logsPort: 8092,
});
const usual = {
  clusterName: "shop",
  endpoint: "https://192.0.2.10:6443",
  installDisk: "/dev/nvme0n1",
  schedulable: false,
};
const kubernetesOf: Record<Contract, string> = { "1.11": "1.34.1", "1.12": "1.35.0", "1.13": "1.36.1" };

function ours(contract: Contract, machineType: MachineType, options: Partial<typeof usual> = {}): ConfigDocument[] {
  return generateConfig({
    ...usual,
    ...options,
    contract,
    secrets,
    machineType,
    kubernetesVersion: kubernetesOf[contract],
    installImage: `factory.talos.dev/metal-installer/abc:v${contract}.1`,
  });
}

/** talosctl's own words, without the usage that follows. */
const refusal = (error: unknown) => String((error as { stderr?: string }).stderr ?? error).slice(0, 600);

test("whatever name, endpoint and disk a cluster has, we generate what talosctl generates", {
  timeout: 120_000,
}, (t) => {
  if (skip) return t.skip(skip);
  const options = fc.record({
    clusterName: fc.stringMatching(/^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$/),
    endpoint: fc.oneof(
      fc.ipV4().map((address) => `https://${address}:6443`),
      fc.domain().map((name) => `https://${name}:443`),
      fc.constantFrom(
        "https://[2001:db8::1]:6443",
        "https://kube.example.org:10000",
        "https://[fdae:41e4:649b:9303::1]:10001",
      ),
    ),
    installDisk: fc.constantFrom("/dev/sda", "/dev/disk/by-id/nvme-0x1", "/dev/mmcblk0"),
    schedulable: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.constantFrom(...contracts),
      fc.constantFrom(...machineTypes),
      options,
      (contract, machineType, chosen) => {
        const schedulable = chosen.schedulable && machineType === "controlplane";
        const theirs = talosctl.run(
          ...["gen", "config", chosen.clusterName, chosen.endpoint, "--with-secrets", secretsFile],
          ...["--talos-version", `v${contract}.0`, "--kubernetes-version", kubernetesOf[contract]],
          ...[
            "--install-disk",
            chosen.installDisk,
            "--install-image",
            `factory.talos.dev/metal-installer/abc:v${contract}.1`,
          ],
          ...["--with-docs=false", "--with-examples=false", "--output-types", machineType, "--output", "-"],
          ...(schedulable ? ["--config-patch", "cluster: {allowSchedulingOnControlPlanes: true}"] : []),
        );
        assert.deepEqual(ours(contract, machineType, { ...chosen, schedulable }).map(normal), normalConfig(theirs));
      },
    ),
    { numRuns: 24 },
  );
});

for (const contract of contracts) {
  for (const machineType of machineTypes) {
    test(`what we generate for a ${machineType} of ${contract} is valid to talosctl and to the schema`, async (t) => {
      const config = [...ours(contract, machineType), ...join];
      await t.test("talosctl, to which warnings are errors too", (t) => {
        if (skip) return t.skip(skip);
        const path = talosctl.file(`${machineType}-${contract}.yaml`, printConfig(config));
        try {
          talosctl.run("validate", "--mode", "metal", "--strict", "--config", path);
        } catch (error) {
          assert.fail(refusal(error));
        }
      });
      await t.test("the schema", (t) => {
        const validators = schemaOf(contract);
        if ("skip" in validators) return t.skip(validators.skip);
        for (const document of config) validators.check(document);
        assert.throws(() => validators.check({ ...config[0], machine: { type: 7 } }), /type/);
      });
    });
  }
}

/** Talos' schema of a version, document by document: of a choice among fifty kinds the errors say nothing. */
function schemaOf(contract: Contract): { check(document: ConfigDocument): void } | { skip: string } {
  const path = new URL(`../../../shared/schemas/talos-${contract}.schema.json`, import.meta.url);
  if (!existsSync(path)) return { skip: "Talos' schemas are not beside this checkout (../shared/schemas)" };
  const schema = JSON.parse(readFileSync(path, "utf8")) as {
    $id: string;
    oneOf: { $ref: string }[];
    $defs: Record<string, { properties: Record<string, { enum?: string[] }> }>;
  };
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv);
  ajv.addSchema(schema);
  const validators = new Map<string, ValidateFunction>();
  for (const { $ref } of schema.oneOf) {
    const kind = schema.$defs[$ref.replace("#/$defs/", "")]?.properties.kind?.enum?.[0] ?? "";
    validators.set(kind, ajv.compile({ $ref: `${schema.$id}${$ref}` }));
  }
  return {
    check(document) {
      // talosctl itself still writes it; the schemas no longer know it.
      const { persist: _, ...rest } = document;
      const validate = validators.get(String(rest.kind ?? ""));
      assert.ok(validate, `Talos ${contract} knows no ${document.kind}`);
      if (!validate(rest))
        assert.fail(`${document.kind ?? "main document"}: ${ajv.errorsText(validate.errors, { separator: "\n" })}`);
    },
  };
}

/** What talosctl makes of patches in a row, or that it refuses them. */
function theirs(base: string, patches: readonly string[]): { documents: unknown[] } | { refused: string } {
  const files = patches.flatMap((text, at) => ["--patch", `@${talosctl.file(`patch-${at}.yaml`, text)}`]);
  try {
    return { documents: normalConfig(talosctl.run("machineconfig", "patch", base, ...files)) };
  } catch (error) {
    return { refused: refusal(error) };
  }
}

test("patches, whatever they hold, merge as talosctl merges them, and are refused when it refuses them", {
  timeout: 120_000,
}, (t) => {
  if (skip) return t.skip(skip);
  const bases = contracts.flatMap((contract) => machineTypes.map((machineType) => ours(contract, machineType)));
  const files = bases.map((base, at) => talosctl.file(`base-${at}.yaml`, printConfig(base)));
  let merged = 0;
  fc.assert(
    fc.property(fc.nat(bases.length - 1), fc.array(patchText, { minLength: 1, maxLength: 3 }), (at, texts) => {
      const expected = theirs(files[at]!, texts);
      let actual: { documents: unknown[] } | { refused: string };
      try {
        const patches = texts.map((text, index) => ({ id: String(index), text }));
        actual = { documents: applyPatches(bases[at]!, patches).map(normal) };
      } catch (error) {
        actual = { refused: messageOf(error) };
      }
      // Asked to delete a document that is not there, or something in it, talosctl puts an empty one in, which no machine takes; we refuse.
      if ("refused" in actual && /delete (names|in) v1alpha1\/\S+, which is not/.test(actual.refused)) return;
      if ("documents" in expected) {
        merged++;
        assert.deepEqual(actual, expected);
      } else assert.ok("refused" in actual, `talosctl refuses it: ${expected.refused}`);
    }),
    { numRuns: Number(process.env.ICHOR_RUNS ?? 60) },
  );
  // A property that nothing reaches says nothing.
  assert.ok(merged > 20, `only ${merged} patches were merged`);
});

// Where talosctl loses what people wrote, we do not follow it. When a newer talosctl no longer does, its case here fails and can go.
const differences: Record<string, { patches: string[]; field: string; theirs: unknown; ours: unknown }> = {
  "the zero of an enumeration cannot replace another value": {
    patches: ["block", "accept"].map(
      (action) => `apiVersion: v1alpha1\nkind: NetworkDefaultActionConfig\ningress: ${action}\n`,
    ),
    field: "ingress",
    theirs: "block",
    ours: "accept",
  },
  "a second patch of a volume empties its disk selector and least size": {
    patches: [
      "apiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\nprovisioning:\n  diskSelector: {match: system_disk}\n  minSize: 1GB\n  maxSize: 2GB\n",
      "apiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\nfilesystem: {type: xfs}\n",
    ],
    field: "provisioning",
    theirs: { maxSize: "2GB" },
    ours: { diskSelector: { match: "system_disk" }, minSize: "1GB", maxSize: "2GB" },
  },
  "of a URL that is replaced, the query stays": {
    patches: ["udp://192.0.2.1:5000?a=1", "udp://192.0.2.2:5001"].map(
      (url) => `apiVersion: v1alpha1\nkind: KmsgLogConfig\nname: remote\nurl: ${url}\n`,
    ),
    field: "url",
    theirs: "udp://192.0.2.2:5001?a=1",
    ours: "udp://192.0.2.2:5001",
  },
};

for (const [name, { patches, field, ...wanted }] of Object.entries(differences)) {
  test(`we do not merge as talosctl merges where it loses what was written: ${name}`, (t) => {
    if (skip) return t.skip(skip);
    const base = ours("1.13", "worker");
    const merged = theirs(talosctl.file("base.yaml", printConfig(base)), patches);
    assert.ok("documents" in merged, JSON.stringify(merged));
    const mine = applyPatches(
      base,
      patches.map((text, at) => ({ id: String(at), text })),
    );
    assert.deepEqual((merged.documents.at(-1) as ConfigDocument)[field], wanted.theirs);
    assert.deepEqual((mine.at(-1) as ConfigDocument)[field], wanted.ours);
  });
}

// What the property above does not write: numbers and references as YAML has them.
const written: Record<string, string> = {
  "texts that look like numbers":
    "machine:\n  nodeLabels: {version: 1.10, rack: 007, serial: 12345678901234567890, code: 1e3}\n  sysctls: {a: 1, b: 0.5, c: 0644}\n",
  "file modes in octal, new and old":
    "machine:\n  files:\n    - {path: /var/a, op: create, content: a, permissions: 0644}\n    - {path: /var/b, op: create, content: b, permissions: 0o600}\n",
  "anchors, aliases and merge keys":
    "machine:\n  sysctls: &s {a: '1'}\n  sysfs: *s\n  env:\n    <<: *s\n    b: '2'\n---\napiVersion: v1alpha1\nkind: EnvironmentConfig\nvariables: {a: '1'}\n",
};

for (const [name, text] of Object.entries(written)) {
  test(`patches are read as talosctl reads them: ${name}`, (t) => {
    if (skip) return t.skip(skip);
    const base = ours("1.13", "worker");
    // The second touches what an alias named: that must have become two.
    const patches = [text, "machine:\n  sysctls: {added: '1'}\n"];
    const merged = theirs(talosctl.file("base.yaml", printConfig(base)), patches);
    assert.ok("documents" in merged, JSON.stringify(merged));
    const mine = applyPatches(
      base,
      patches.map((patch, at) => ({ id: String(at), text: patch })),
    );
    // Through talosctl once more, as Talos would read it: it has types where we have texts.
    const read = theirs(talosctl.file("mine.yaml", printConfig(mine)), ["machine: {}\n"]);
    assert.deepEqual(read, merged);
  });
}
