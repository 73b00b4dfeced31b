import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { stringify } from "yaml";
import { systemClock } from "#lib/clock.ts";
import { printConfig } from "#talos/document.ts";
import { generateConfig } from "#talos/generate.ts";
import { joinDocuments } from "#talos/kernelargs.ts";
import { applyPatches } from "#talos/patch.ts";
import { makeSecrets, type SecretsBundle, toTalosctlSecrets } from "#talos/secrets.ts";
import { normal, normalConfig, openTalosctl, type Talosctl } from "./talos-config.ts";

// Stock talosctl says what a configuration is: what it generates, merges and accepts, ours must too.

let skip: string | false = false;
let secrets: SecretsBundle;
let talosctl: Talosctl;
const run = (...args: string[]) => talosctl.run(...args);
const file = (name: string, text: string) => talosctl.file(name, text);

before(async () => {
  secrets = await makeSecrets(systemClock);
  const tool = await openTalosctl();
  if ("skip" in tool) skip = tool.skip;
  else talosctl = tool;
});
after(() => talosctl?.close());

function ours(contract: `1.${number}`, machineType: "controlplane" | "worker", kubernetesVersion: string) {
  return generateConfig({
    contract,
    clusterName: "shop",
    endpoint: "https://[fdae:41e4:649b:9303::1]:10000",
    secrets,
    machineType,
    kubernetesVersion,
    installDisk: "/dev/sda",
    installImage: "factory.talos.dev/metal-installer/abc:v1.13.0",
  });
}

for (const [contract, kubernetesVersion] of [
  ["1.11", "1.34.1"],
  ["1.12", "1.35.0"],
  ["1.13", "1.36.1"],
  ["1.13", "1.33.2"],
] as const) {
  test(`what we generate for ${contract} with Kubernetes ${kubernetesVersion} is what talosctl generates`, (t) => {
    if (skip) return t.skip(skip);
    const base = [
      "gen",
      "config",
      "shop",
      "https://[fdae:41e4:649b:9303::1]:10000",
      "--with-secrets",
      file("secrets.yaml", stringify(toTalosctlSecrets(secrets))),
      "--talos-version",
      `v${contract}.0`,
    ];
    const flags = [
      "--kubernetes-version",
      kubernetesVersion,
      "--install-disk",
      "/dev/sda",
      "--install-image",
      "factory.talos.dev/metal-installer/abc:v1.13.0",
    ];
    for (const machineType of ["controlplane", "worker"] as const) {
      const theirs = run(
        ...base,
        ...flags,
        "--with-docs=false",
        "--with-examples=false",
        "--output-types",
        machineType,
        "--output",
        "-",
      );
      assert.deepEqual(ours(contract, machineType, kubernetesVersion).map(normal), normalConfig(theirs));
    }
  });
}

test("talosctl accepts what we generate, with the documents that make a machine join", (t) => {
  if (skip) return t.skip(skip);
  const join_ = joinDocuments({
    apiUrl: "grpc://192.0.2.1:8090",
    joinToken: "abc",
    tunnel: false,
    planeAddress: "fdae:41e4:649b:9303::1",
    eventsPort: 8090,
    logsPort: 8092,
  });
  for (const machineType of ["controlplane", "worker"] as const) {
    run(
      "validate",
      "--mode",
      "metal",
      "--config",
      file(`${machineType}.yaml`, printConfig([...ours("1.13", machineType, "1.36.1"), ...join_])),
    );
  }
});

const patches: Record<string, string> = {
  "maps merge, scalars replace":
    "machine:\n  kubelet:\n    image: example.org/kubelet:v1\n    extraArgs:\n      v: '4'\n",
  "lists append": "machine:\n  certSANs: [a.example.org]\n  kernel:\n    modules:\n      - name: nvme_tcp\n",
  "subnets are replaced": "cluster:\n  network:\n    podSubnets: [10.0.0.0/8]\n    serviceSubnets: [172.16.0.0/12]\n",
  "the audit policy is replaced":
    "cluster:\n  apiServer:\n    auditPolicy:\n      apiVersion: audit.k8s.io/v1\n      kind: Policy\n      rules:\n        - level: None\n",
  "admission plugins merge by name":
    "cluster:\n  apiServer:\n    admissionControl:\n      - name: PodSecurity\n        configuration:\n          exemptions:\n            namespaces: [extra]\n      - name: Other\n        configuration: {a: 1}\n",
  "interfaces merge by name":
    "machine:\n  network:\n    interfaces:\n      - interface: eth0\n        addresses: [192.0.2.5/24]\n      - interface: eth0\n        mtu: 9000\n        vlans:\n          - vlanId: 5\n            dhcp: true\n      - interface: eth0\n        vlans:\n          - vlanId: 5\n            mtu: 1400\n          - vlanId: 6\n            dhcp: true\n",
  "selectors match as a whole":
    "machine:\n  network:\n    interfaces:\n      - deviceSelector: {driver: virtio_net}\n        dhcp: true\n      - deviceSelector: {driver: virtio_net}\n        mtu: 1300\n      - deviceSelector: {driver: e1000}\n        dhcp: true\n",
  "a section goes": "cluster:\n  apiServer:\n    admissionControl:\n      $patch: delete\n",
  "an item goes": "cluster:\n  apiServer:\n    admissionControl:\n      - name: PodSecurity\n        $patch: delete\n",
  "a document goes": "apiVersion: v1alpha1\nkind: HostnameConfig\n$patch: delete\n",
  "documents come":
    "apiVersion: v1alpha1\nkind: WatchdogTimerConfig\ndevice: /dev/watchdog0\ntimeout: 2m0s\n---\nmachine:\n  sysctls:\n    a: '1'\n",
  "documents merge": "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: 'off'\nhostname: till-1\n",
  "extra arguments replace their values":
    "cluster:\n  controllerManager:\n    extraArgs:\n      bind-address: 0.0.0.0\n",
};

for (const [name, patch] of Object.entries(patches)) {
  test(`patches merge as talosctl merges them: ${name}`, (t) => {
    if (skip) return t.skip(skip);
    const config = ours("1.13", "controlplane", "1.36.1");
    const theirs = run(
      "machineconfig",
      "patch",
      file("base.yaml", printConfig(config)),
      "--patch",
      `@${file("patch.yaml", patch)}`,
    );
    const mine = applyPatches(config, [{ id: name, text: patch }]);
    assert.deepEqual(mine.map(normal), normalConfig(theirs));
  });
}

test("patches in a row merge as talosctl merges them", (t) => {
  if (skip) return t.skip(skip);
  const config = ours("1.13", "worker", "1.36.1");
  const texts = Object.entries(patches).filter(([name]) => !/(section|item|document) goes|admission|audit/.test(name));
  const flags = texts.flatMap(([, text], index) => ["--patch", `@${file(`patch${index}.yaml`, text)}`]);
  const theirs = run("machineconfig", "patch", file("base.yaml", printConfig(config)), ...flags);
  const mine = applyPatches(
    config,
    texts.map(([id, text]) => ({ id, text })),
  );
  assert.deepEqual(mine.map(normal), normalConfig(theirs));
});

test("what an earlier patch set, a later one takes out", (t) => {
  if (skip) return t.skip(skip);
  const config = ours("1.13", "controlplane", "1.36.1");
  const texts = [
    "cluster:\n  apiServer:\n    extraArgs: {v: '2', x: '1'}\nmachine:\n  sysctls: {a: '1', b: '2'}\n  kernel:\n    modules: [{name: zfs}, {name: nvme_tcp}]\n",
    "cluster:\n  apiServer:\n    extraArgs:\n      v: {$patch: delete}\n      y: '3'\nmachine:\n  sysctls:\n    b: {$patch: delete}\n  kernel:\n    modules: [{name: zfs, $patch: delete}, {name: drbd}]\n",
    "machine:\n  sysctls: {$patch: delete}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\n$patch: delete\n---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: till-2\n",
  ];
  const flags = texts.flatMap((text, index) => ["--patch", `@${file(`patch${index}.yaml`, text)}`]);
  const theirs = run("machineconfig", "patch", file("base.yaml", printConfig(config)), ...flags);
  const mine = applyPatches(
    config,
    texts.map((text, at) => ({ id: String(at), text })),
  );
  assert.deepEqual(mine.map(normal), normalConfig(theirs));
  assert.match(theirs, /nvme_tcp[\s\S]*drbd/);
});

test("what talosctl refuses to merge, we refuse", (t) => {
  if (skip) return t.skip(skip);
  const config = ours("1.13", "controlplane", "1.36.1");
  for (const patch of [
    "cluster:\n  apiServer:\n    admissionControl:\n      - name: Nope\n        $patch: delete\n",
    "machine: [1]\n",
    "machine:\n  sysctls:\n    nope: {$patch: delete}\n",
    "machine:\n  time:\n    servers: {$patch: delete}\n",
    "machine:\n  sysctls: {a: '1'}\n---\nmachine:\n  sysctls: {a: '2'}\n",
    "apiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\nmtu: 1400\n---\napiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\nup: true\n",
    "machine:\n  network:\n    interfaces:\n      - interface: eth0\n        addresses: {$patch: delete}\n",
    "$patch: delete\n",
    "- op: add\n  path: /machine/certSANs/-\n  value: x\n",
  ]) {
    const base = file("base.yaml", printConfig(config));
    assert.throws(() => run("machineconfig", "patch", base, "--patch", `@${file("patch.yaml", patch)}`), Error, patch);
    assert.throws(() => applyPatches(config, [{ id: "p", text: patch }]), Error, patch);
  }
});
