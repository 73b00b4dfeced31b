// Patches as people write them, at random: every kind of field that merges in a way of its own, few names, so that patches meet.
import fc from "fast-check";
import { stringify } from "yaml";

type Fields = Record<string, unknown>;

/** The mark that takes something out. */
const gone = { $patch: "delete" };
/** A value, or now and then the mark: what it names is often there, and often not. */
const orGone = (value: fc.Arbitrary<unknown>) =>
  fc.oneof({ weight: 20, arbitrary: value }, { weight: 1, arbitrary: fc.constant(gone) });
/** Some of the fields. */
function some(fields: Record<string, fc.Arbitrary<unknown>>, most = 3): fc.Arbitrary<Fields> {
  return fc
    .subarray(Object.keys(fields), { minLength: 1, maxLength: Math.min(most, Object.keys(fields).length) })
    .chain(
      (keys) => fc.record(Object.fromEntries(keys.map((key) => [key, orGone(fields[key]!)]))) as fc.Arbitrary<Fields>,
    );
}
/** The same without marks, with `fixed` beside: an item of a list. */
function item(fixed: Record<string, fc.Arbitrary<unknown>>, fields: Record<string, fc.Arbitrary<unknown>>) {
  return fc
    .subarray(Object.keys(fields), { maxLength: Math.min(2, Object.keys(fields).length) })
    .chain((keys) => fc.record({ ...fixed, ...Object.fromEntries(keys.map((key) => [key, fields[key]!])) }));
}
const one = (...values: unknown[]): fc.Arbitrary<unknown> => fc.constantFrom(...values);
const list = (value: fc.Arbitrary<unknown>, least = 0) => fc.array(value, { minLength: least, maxLength: 3 });
const text = one("", "a", "b", "example.org", "0", "1.10", "yes");
const map = (...keys: string[]) => some(Object.fromEntries(keys.map((key) => [key, text])));
// Lists of one argument's values are in the format, but talosctl 1.13.0 cannot read them in a patch.
const args = some({ v: one("4", "2"), "feature-gates": one("A=true", ""), x: one("", "1") });
const subnets = list(one("10.1.0.0/16", "fd00:1::/64", "192.0.2.0/24"));
/** Values of others' formats, in which Talos looks at nothing. */
const foreign = some({
  shutdown: one("30s", "60s", ""),
  flags: some({ a: fc.boolean(), b: one(0, 1, 7) }),
  list: list(one("x", "y")),
  items: list(item({ name: one("p", "q") }, { weight: one(0, 5) })),
});

const vlan = item({ vlanId: one(5, 6) }, { dhcp: fc.boolean(), mtu: one(0, 1400), addresses: subnets });
const interfaces = list(
  fc.oneof(
    item(
      { interface: one("eth0", "eth1") },
      { addresses: subnets, mtu: one(0, 1500, 9000), dhcp: fc.boolean(), vlans: list(vlan) },
    ),
    item(
      { deviceSelector: fc.oneof(fc.constant({ driver: "virtio_net" }), fc.constant({ driver: "e1000" })) },
      { dhcp: fc.boolean(), mtu: one(1300, 0) },
    ),
  ),
);

const machine = some({
  sysctls: map("net.a", "vm.b"),
  sysfs: map("devices.x"),
  env: map("GODEBUG", "http_proxy"),
  nodeLabels: map("site", "rack"),
  nodeTaints: map("dedicated"),
  certSANs: list(one("a.example.org", "192.0.2.9")),
  kubelet: some({
    extraArgs: args,
    clusterDNS: list(one("10.96.0.10", "169.254.2.53")),
    nodeIP: some({ validSubnets: subnets }),
    extraConfig: foreign,
    defaultRuntimeSeccompProfileEnabled: fc.boolean(),
    image: one("", "example.org/kubelet:v1"),
  }),
  network: some({
    interfaces,
    nameservers: list(one("192.0.2.53", "2001:db8::53")),
    extraHostEntries: list(item({ ip: one("192.0.2.1", "192.0.2.2") }, { aliases: list(text) })),
    disableSearchDomain: fc.boolean(),
  }),
  files: list(
    fc.record({
      path: one("/var/a", "/var/b"),
      op: one("create", "overwrite"),
      permissions: one(0o644, 0o600),
      content: text,
    }),
  ),
  time: some({
    disabled: fc.boolean(),
    servers: list(one("time.example.org", "192.0.2.123")),
    bootTimeout: one("2m0s", "1m30s"),
  }),
  registries: some({
    mirrors: some({
      "docker.io": some({
        endpoints: list(one("https://m.example.org", "https://n.example.org")),
        overridePath: fc.boolean(),
      }),
      "ghcr.io": some({ endpoints: list(one("https://m.example.org")), skipFallback: fc.boolean() }),
    }),
  }),
  features: some({
    kubePrism: some({ enabled: fc.boolean(), port: one(0, 7445, 7446) }),
    hostDNS: some({ enabled: fc.boolean(), forwardKubeDNSToHost: fc.boolean() }),
    diskQuotaSupport: fc.boolean(),
  }),
  install: some({
    wipe: fc.boolean(),
    extraKernelArgs: list(one("a=1", "b")),
    image: one("", "example.org/installer:v1"),
  }),
  kernel: some({
    modules: list(
      fc.oneof(
        { weight: 5, arbitrary: item({ name: one("nvme_tcp", "zfs") }, { parameters: list(text) }) },
        { weight: 1, arbitrary: fc.constant({ name: "zfs", ...gone }) },
      ),
    ),
  }),
});

const cluster = some({
  network: some({
    podSubnets: subnets,
    serviceSubnets: subnets,
    dnsDomain: one("", "k8s.example.org"),
    cni: some({ name: one("flannel", "none") }),
  }),
  apiServer: some({
    extraArgs: args,
    certSANs: list(one("k.example.org")),
    env: map("A", "B"),
    auditPolicy: some({ kind: fc.constant("Policy"), rules: list(fc.record({ level: one("None", "Metadata") })) }),
    admissionControl: list(
      fc.oneof(
        {
          weight: 5,
          arbitrary: item({ name: one("PodSecurity", "Other") }, { configuration: some({ a: one(1, 0) }) }),
        },
        { weight: 1, arbitrary: fc.constant({ name: "PodSecurity", ...gone }) },
      ),
    ).map(withoutMarksInside),
    resources: some({ requests: some({ cpu: one("100m", "1"), memory: one("1Gi") }) }),
    extraVolumes: list(fc.record({ hostPath: one("/a"), mountPath: one("/b"), readonly: one(true) })),
  }),
  controllerManager: some({ extraArgs: args, image: one("", "example.org/cm:v1") }),
  scheduler: some({ extraArgs: args, config: foreign }),
  proxy: some({ disabled: fc.boolean(), mode: one("nftables", ""), extraArgs: args }),
  etcd: some({ extraArgs: args, advertisedSubnets: subnets }),
  extraManifests: list(one("https://example.org/a.yaml", "https://example.org/b.yaml")),
  extraManifestHeaders: map("Token", "X-Site"),
  inlineManifests: list(fc.record({ name: one("a", "b"), contents: fc.constant("kind: Namespace\n") })),
  allowSchedulingOnControlPlanes: fc.boolean(),
  discovery: some({
    enabled: fc.boolean(),
    registries: some({ service: some({ disabled: fc.boolean(), endpoint: one("", "https://d.example.org/") }) }),
  }),
});

/** Marks inside items are refused as a whole: rarely worth a run. */
function withoutMarksInside(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (key, inner) =>
    key !== "" &&
    typeof inner === "object" &&
    inner !== null &&
    inner.$patch === "delete" &&
    Object.keys(inner).length === 1
      ? undefined
      : inner,
  );
}

const document = (
  kind: string,
  names: string[],
  fields: Record<string, fc.Arbitrary<unknown>>,
  needed: Record<string, fc.Arbitrary<unknown>> = {},
) =>
  fc
    .tuple(
      names.length ? one(...names) : fc.constant(undefined),
      fc.record(needed),
      Object.keys(fields).length ? some(fields) : fc.constant({}),
    )
    .map(([name, fixed, rest]) => ({ apiVersion: "v1alpha1", kind, ...(name ? { name } : {}), ...fixed, ...rest }));

const documents = fc.oneof(
  document("LinkConfig", ["eth0", "eth1"], {
    up: fc.boolean(),
    mtu: one(0, 1500, 9000),
    addresses: list(
      fc.oneof(
        {
          weight: 4,
          arbitrary: item({ address: one("192.0.2.7/24", "192.0.2.8/24") }, { routePriority: one(0, 100) }),
        },
        { weight: 1, arbitrary: fc.constant({ address: "192.0.2.7/24", ...gone }) },
      ),
    ),
    routes: list(
      item({ destination: one("198.51.100.0/24", "203.0.113.0/24") }, { gateway: one("192.0.2.1"), metric: one(0, 5) }),
    ),
  }),
  document(
    "NetworkRuleConfig",
    ["apid", "kubelet"],
    { ingress: list(item({ subnet: one("192.0.2.0/24", "fd00::/8") }, { except: one("192.0.2.1/32") })) },
    // A rule without protocol is none, and talosctl writes it as one of the name "Protocol(0)".
    { portSelector: item({ protocol: one("tcp", "udp") }, { ports: list(one(50000, 10250, "8000-8010"), 1) }) },
  ),
  document("NetworkDefaultActionConfig", [], {}, { ingress: one("block") }),
  document("ExtensionServiceConfig", ["nut-client", "tailscale"], {
    configFiles: list(fc.record({ content: text, mountPath: one("/etc/a", "/etc/b") })),
    environment: list(one("A=1", "B=2")),
  }),
  document(
    "BondConfig",
    ["bond0"],
    { miimon: one(0, 100), mtu: one(0, 9000), up: fc.boolean() },
    { links: list(one("eth0", "eth1"), 1), bondMode: one("802.3ad", "active-backup") },
  ),
  document("DHCPv4Config", ["eth0", "eth1"], { routeMetric: one(0, 512), ignoreHostname: fc.boolean() }),
  document("HostnameConfig", [], { auto: one("stable", "off"), hostname: one("", "till-1") }),
  document("TimeSyncConfig", [], {
    enabled: fc.boolean(),
    bootTimeout: one("2m0s"),
    ntp: some({ servers: list(one("time.example.org")) }),
  }),
  document("ResolverConfig", [], {
    nameservers: list(fc.record({ address: one("192.0.2.53", "2001:db8::53") })),
    searchDomains: some({ domains: list(one("example.org")), disableDefault: fc.boolean() }),
  }),
  document("StaticHostConfig", ["192.0.2.80", "2001:db8::80"], { hostnames: list(one("a", "b.example.org")) }),
  document("RegistryMirrorConfig", ["docker.io"], {
    endpoints: list(fc.record({ url: one("https://m.example.org", "https://n.example.org") })),
    skipFallback: fc.boolean(),
  }),
  document("EnvironmentConfig", [], { variables: map("A", "B") }),
  document("WatchdogTimerConfig", [], { device: one("/dev/watchdog0", "/dev/watchdog1"), timeout: one("2m0s", "30s") }),
  document("EthernetConfig", ["eth0"], {
    rings: some({ rx: one(0, 256), tx: one(0, 512) }),
    features: some({ "tx-checksum-ipv4": fc.boolean() }),
  }),
  document("ZswapConfig", [], { maxPoolPercent: one(0, 20), shrinkerEnabled: fc.boolean() }),
  document("KubeSpanConfig", [], {
    enabled: fc.boolean(),
    mtu: one(0, 1420),
    filters: some({ endpoints: list(one("0.0.0.0/0", "!192.0.2.0/24")) }),
  }),
  document("KmsgLogConfig", ["remote"], {}, { url: one("tcp://192.0.2.3:5000", "udp://192.0.2.4:5001") }),
  document("TrustedRootsConfig", ["corporate"], { certificates: one("", "a", "b") }),
);
const main = fc.oneof(
  machine.map((fields) => ({ machine: fields })),
  cluster.map((fields) => ({ cluster: fields })),
  fc.tuple(machine, cluster).map(([m, c]) => ({ machine: m, cluster: c })),
);
const whole = one(
  { apiVersion: "v1alpha1", kind: "LinkConfig", name: "eth0", ...gone },
  { apiVersion: "v1alpha1", kind: "HostnameConfig", ...gone },
);

/** The text of one patch, of one to three documents, each once: two of one name are refused. */
export const patchText: fc.Arbitrary<string> = fc
  .uniqueArray(
    fc.oneof(
      { weight: 6, arbitrary: main as fc.Arbitrary<Fields> },
      { weight: 10, arbitrary: documents as fc.Arbitrary<Fields> },
      { weight: 1, arbitrary: whole as fc.Arbitrary<Fields> },
    ),
    {
      minLength: 1,
      maxLength: 3,
      selector: ({ kind, name, $patch }) => `${String(kind)}/${String(name)}/${String($patch)}`,
    },
  )
  .map((all) => all.map((single) => stringify(single, { aliasDuplicateObjects: false })).join("---\n"));
