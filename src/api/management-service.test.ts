import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { parse } from "yaml";
import { ManagementService } from "#gen/management/management_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { JoinTokenKind } from "#kinds/machine/join-token.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import type { Role } from "#resource/kind.ts";
import { outcome, startApi, type TestApi } from "./fixtures.test.ts";

const failsWith = async (call: Promise<unknown> | AsyncIterable<unknown>, code: string, words: RegExp) => {
  const { code: got, message } = await outcome(call);
  assert.equal(got, code, message);
  assert.match(message, words);
};
const shop = { headers: { context: "shop" } };

async function addCluster({ state }: TestApi, name = "shop"): Promise<void> {
  await state.create(ClusterKind, name, {});
  await state.create(ClusterUUIDKind, name, { uuid: `uuid of ${name}` });
  await state.as("plane").create(ClusterSecretsKind, name, { data: Buffer.from("very secret") });
}

test("a kubeconfig leads to the plane with one token for one cluster, and holds no key", async (t) => {
  const api = await startApi(t);
  await addCluster(api);
  const groups: [Role, string][] = [
    ["Reader", "ichor:reader"],
    ["Operator", "system:masters"],
    ["Admin", "system:masters"],
  ];
  for (const [role, group] of groups) {
    const client = await api.client(ManagementService, role);
    const text = Buffer.from((await client.kubeconfig({}, shop)).kubeconfig).toString();
    assert.doesNotMatch(text, /client-key|client-certificate|PRIVATE|very secret/);
    const config = parse(text);
    assert.equal(config.clusters[0].cluster.server, `${api.url}/k8s/clusters/shop`);
    assert.equal(Buffer.from(config.clusters[0].cluster["certificate-authority-data"], "base64").toString(), api.ca);
    assert.equal(config.contexts[0].name, config["current-context"]);
    assert.deepEqual(await api.tokens.verify(config.users[0].user.token), {
      identity: `${role.toLowerCase()}@example`,
      cluster: "shop",
      clusterUUID: "uuid of shop",
      groups: [group],
    });
  }
  const reader = await api.client(ManagementService, "Reader");
  await failsWith(
    reader.kubeconfig({ serviceAccountGroups: ["system:masters"] }, shop),
    "PermissionDenied",
    /may act only in the group ichor:reader/,
  );
  await failsWith(reader.kubeconfig({}), "InvalidArgument", /name the cluster in the metadata "context"/);
  await failsWith(reader.kubeconfig({}, { headers: { context: "none" } }), "NotFound", /no cluster "none"/);
  await failsWith(reader.kubeconfig({ breakGlass: true }, shop), "Unimplemented", /not built yet/);
  for (const seconds of [0n, -5n, 31n * 86_400n])
    await failsWith(
      reader.kubeconfig({ serviceAccountTtl: { seconds } }, shop),
      "InvalidArgument",
      /a token lives from/,
    );
});

test("a kubeconfig of another cluster, or of an earlier one of the name, opens nothing", async (t) => {
  const api = await startApi(t);
  await addCluster(api);
  await addCluster(api, "other");
  const client = await api.client(ManagementService, "Admin");
  const { token } = parse(Buffer.from((await client.kubeconfig({}, shop)).kubeconfig).toString()).users[0].user;
  const get = async (cluster: string) => {
    const { status, body } = await api.http(`/k8s/clusters/${cluster}/version`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return [status, JSON.parse(body.toString()).message] as const;
  };
  // Let in, though nothing answers behind it.
  assert.ok((await get("shop"))[0] >= 500);
  const [status, message] = await get("other");
  assert.deepEqual([status, /the token is for cluster "shop"/.test(message)], [403, true]);
  await api.state.update(ClusterUUIDKind, "shop", ({ spec }) => {
    spec.uuid = "a new one";
  });
  const [later, words] = await get("shop");
  assert.deepEqual([later, /earlier cluster of the name/.test(words)], [403, true]);
  api.clock.advance(13 * 3_600_000);
  assert.equal((await get("shop"))[0], 401);
});

test("a talosconfig holds a certificate of the plane for hours, with the caller's role", async (t) => {
  const api = await startApi(t);
  await addCluster(api);
  const roles: [Role, string][] = [
    ["Reader", "os:reader"],
    ["Auditor", "os:reader"],
    ["Operator", "os:operator"],
    ["Admin", "os:admin"],
  ];
  for (const [role, organization] of roles) {
    const client = await api.client(ManagementService, role);
    const config = parse(Buffer.from((await client.talosconfig({}, shop)).talosconfig).toString());
    const { endpoints, cluster, crt, ca } = config.contexts[config.context];
    assert.deepEqual([endpoints, cluster], [[`127.0.0.1:${api.port}`], "shop"]);
    assert.equal(Buffer.from(ca, "base64").toString(), api.ca);
    const certificate = new X509Certificate(Buffer.from(crt, "base64"));
    assert.match(certificate.subject, new RegExp(`O=${organization}`));
    assert.match(certificate.subject, new RegExp(`CN=${role.toLowerCase()}@example`));
    assert.ok(certificate.verify(new X509Certificate(api.ca).publicKey));
    assert.ok(Date.parse(certificate.validTo) - api.clock.now() <= 8 * 3_600_000);
  }
  const admin = await api.client(ManagementService, "Admin");
  const whole = parse(Buffer.from((await admin.talosconfig({})).talosconfig).toString());
  assert.equal(whole.contexts[whole.context].cluster, undefined);
  await failsWith(admin.talosconfig({ raw: true }, shop), "Unimplemented", /not built yet/);
  await failsWith(admin.talosconfig({ breakGlass: true }, shop), "Unimplemented", /not built yet/);
  await failsWith(admin.talosconfig({}, { headers: { context: "none" } }), "NotFound", /no cluster "none"/);
});

test("join tokens are random, named, and may end", async (t) => {
  const api = await startApi(t);
  const admin = await api.client(ManagementService, "Admin");
  const ids = await Promise.all(["a", "b"].map((name) => admin.createJoinToken({ name }).then(({ id }) => id)));
  assert.ok(ids.every((id) => /^[0-9A-Za-z]{40,}$/.test(id)) && ids[0] !== ids[1], ids.join());
  for (const name of ["", "  ", "x".repeat(129)])
    await failsWith(admin.createJoinToken({ name }), "InvalidArgument", /1 to 128 characters/);
  await failsWith(
    admin.createJoinToken({ name: "late", expirationTime: timestampFromMs(api.clock.now()) }),
    "InvalidArgument",
    /would have expired already/,
  );
  assert.ok(!api.lines.some((line) => ids.some((id) => line.includes(id))), "a token is in the log");
});

test("a machine is told how to join with a token that is good, and with no other", async (t) => {
  const api = await startApi(t);
  const operator = await api.client(ManagementService, "Operator");
  await failsWith(operator.getMachineJoinConfig({}), "NotFound", /no such join token/);
  await failsWith(operator.getMachineJoinConfig({ joinToken: "guess" }), "NotFound", /no such join token/);
  const admin = await api.client(ManagementService, "Admin");
  const { id } = await admin.createJoinToken({
    name: "site",
    expirationTime: timestampFromMs(api.clock.now() + 60_000),
  });
  await api.state.create(DefaultJoinTokenKind, "default", { tokenId: id });
  const { kernelArgs, config } = await operator.getMachineJoinConfig({});
  assert.deepEqual(kernelArgs, [
    `siderolink.api=grpc://192.0.2.1:8090?jointoken=${id}`,
    "talos.events.sink=[fdae:41e4:649b:9303::1]:8090",
    "talos.logging.kernel=tcp://[fdae:41e4:649b:9303::1]:8092",
  ]);
  assert.ok(config.includes(id));
  const tunnel = await operator.getMachineJoinConfig({ useGrpcTunnel: true });
  assert.match(tunnel.kernelArgs[0] ?? "", /grpc_tunnel=true/);
  api.clock.advance(60_000);
  await failsWith(operator.getMachineJoinConfig({}), "FailedPrecondition", /has expired: name another/);
  const { id: second } = await admin.createJoinToken({ name: "second" });
  await api.state.update(JoinTokenKind, second, ({ spec }) => {
    spec.revoked = true;
  });
  await failsWith(
    operator.getMachineJoinConfig({ joinToken: second }),
    "FailedPrecondition",
    /is revoked: name another/,
  );
});

test("logs come a line at a time, of machines that there are", async (t) => {
  const api = await startApi(t);
  await api.state.create(MachineKind, "m1", {});
  const client = await api.client(ManagementService, "Reader");
  const lines = async (request: { machineId: string; follow?: boolean; tailLines?: number }) => {
    const all: string[] = [];
    for await (const { bytes } of client.machineLogs(request)) all.push(Buffer.from(bytes).toString());
    return all;
  };
  assert.deepEqual(await lines({ machineId: "m1", tailLines: 2 }), ["m1 0\n", "m1 1\n"]);
  assert.deepEqual(await lines({ machineId: "m1", follow: true, tailLines: 5 }), ["m1 follows 5\n"]);
  for (const machineId of ["m2", "", "../m1"])
    await failsWith(client.machineLogs({ machineId }), "NotFound", /there is no machine/);
});
