import assert from "node:assert/strict";
import { before, test } from "node:test";
import { systemClock } from "#lib/clock.ts";
import { parseConfig, printConfig } from "./document.ts";
import { type GenerateOptions, generateConfig } from "./generate.ts";
import { base64, makeSecrets, type SecretsBundle } from "./secrets.ts";

// That the documents are stock talosctl's is measured in test/interop; here is what must hold whatever they are.

let secrets: SecretsBundle;
before(async () => {
  secrets = await makeSecrets(systemClock);
});

const generate = (changes: Partial<GenerateOptions> = {}) =>
  generateConfig({
    contract: "1.13",
    clusterName: "c",
    endpoint: "https://[fdae:41e4:649b:9303::1]:10000",
    secrets,
    machineType: "controlplane",
    kubernetesVersion: "1.34.1",
    installDisk: "/dev/sda",
    installImage: "factory.example/metal-installer/x:v1.13.0",
    ...changes,
  });
const contracts = ["1.11", "1.12", "1.13"] as const;

test("a worker holds no key that signs for the cluster or reads its secrets", () => {
  for (const contract of contracts) {
    const text = printConfig(generate({ contract, machineType: "worker" }));
    for (const pair of [secrets.os, secrets.kubernetes, secrets.etcd, secrets.aggregator])
      assert.ok(!text.includes(base64(pair.key)), `a CA key in a worker's configuration of ${contract}`);
    assert.ok(!text.includes(base64(secrets.serviceAccountKey)));
    assert.ok(!text.includes(secrets.secretboxEncryptionSecret));
    for (const pair of [secrets.etcd, secrets.aggregator]) assert.ok(!text.includes(base64(pair.crt)));
    for (const needed of [
      base64(secrets.os.crt),
      base64(secrets.kubernetes.crt),
      secrets.bootstrapToken,
      secrets.trustdToken,
    ])
      assert.ok(text.includes(needed));
  }
});

test("written and read again it is the same; made again too, and nothing of what was given is changed", () => {
  for (const contract of contracts) {
    for (const machineType of ["controlplane", "worker"] as const) {
      const before = structuredClone(secrets);
      const made = generate({ contract, machineType });
      assert.deepEqual(
        parseConfig(printConfig(made)).map(({ document }) => document),
        made,
      );
      const again = generate({ contract, machineType });
      assert.deepEqual(again, made);
      assert.equal(printConfig(again), printConfig(made), "the same text, so that its hash is the same");
      // No two configurations share what a patch would change.
      (made[0] as { machine: { certSANs: string[] } }).machine.certSANs.push("x");
      (made[0] as { cluster: { network: { podSubnets: string[] } } }).cluster.network.podSubnets.push("x");
      assert.deepEqual(generate({ contract, machineType }), again);
      assert.deepEqual(secrets, before);
    }
  }
});

test("texts that YAML would take for something else stay texts", () => {
  for (const clusterName of ["yes", "null", "1.10", "0x10", "~", "a: b", "# c", "- d", "'", "\u2028"]) {
    const [main] = parseConfig(printConfig(generate({ clusterName })));
    assert.equal((main!.document.cluster as { clusterName: string }).clusterName, clusterName);
  }
});

test("an IPv6 endpoint is a name of the API server without brackets, in the contracts that write it", () => {
  const sans = (contract: (typeof contracts)[number]) =>
    (generate({ contract })[0] as { cluster: { apiServer: { certSANs?: string[] } } }).cluster.apiServer.certSANs;
  assert.deepEqual(sans("1.11"), ["fdae:41e4:649b:9303::1"]);
  assert.equal(sans("1.13"), undefined);
});
