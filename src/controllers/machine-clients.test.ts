import assert from "node:assert/strict";
import { once } from "node:events";
import { createSecureServer, type Http2SecureServer, type SecureServerOptions } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { type TestContext, test } from "node:test";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { MachineService } from "#gen/machine/machine_pb.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { systemClock as clock } from "#lib/clock.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { type CertKey, issue, makeCA, opensslKey } from "#talos/pki.ts";
import { encodeSecrets } from "#talos/secrets.ts";
import { MachineClients } from "./machine-clients.ts";

// Whether a machine is reached as a member of its cluster or in maintenance: over real TLS, with loopback in place of the link.

const address = "fdae:41e4:649b:9303::42";
const stop = new AbortController();
let server: Http2SecureServer | undefined;

/** The machine's apid as it is from now on. */
async function serve(t: TestContext, ca: CertKey, options: SecureServerOptions): Promise<void> {
  server?.close();
  const { crt, key } = await issue(ca, { usage: "server", ttl: 60_000, ips: [address] }, clock);
  const handler = connectNodeAdapter({
    routes: (router) => router.service(MachineService, { version: () => ({ messages: [{}] }) }),
  });
  server = createSecureServer({ ...options, cert: crt, key: opensslKey(key), minVersion: "TLSv1.3" }, handler);
  server.on("session", (session) => session.on("error", () => {}));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const mine = server;
  t.after(() => mine.close());
}

const asMember = (t: TestContext, ca: CertKey) =>
  serve(t, ca, { ca: ca.crt, requestCert: true, rejectUnauthorized: true });

async function secretsOf(state: State, cluster: string): Promise<CertKey> {
  const ca = await makeCA("ed25519", "talos", clock);
  const rest = { clusterId: "", clusterSecret: "", bootstrapToken: "", secretboxEncryptionSecret: "", trustdToken: "" };
  const bundle = { ...rest, etcd: ca, kubernetes: ca, aggregator: ca, serviceAccountKey: "", os: ca };
  await state.create(ClusterSecretsKind, cluster, { data: encodeSecrets(bundle) });
  return ca;
}

test("a machine is reached as what it is, also in a later cluster of the same name", async (t) => {
  const state = new State(new MemoryStore({ clock }));
  const dial = async () => connect((server!.address() as AddressInfo).port, "127.0.0.1");
  const clients = new MachineClients({ state, dial, clock });
  const inMaintenance = () =>
    clients.reach({ address, cluster: "shop" }, stop.signal, async (_, maintenance) => maintenance);

  const foreign = await makeCA("ed25519", "talos", clock);
  await serve(t, foreign, {});
  assert.equal(await inMaintenance(), true, "before the cluster has secrets");

  const first = await secretsOf(state, "shop");
  assert.equal(await inMaintenance(), true, "before it has a configuration");
  await asMember(t, first);
  assert.equal(await inMaintenance(), false);
  await asMember(t, foreign);
  await assert.rejects(inMaintenance(), { code: "unauthenticated", message: /not of this plane/ });

  await state.store.destroy(ClusterSecretsKind.key("shop"));
  const second = await secretsOf(state, "shop");
  await asMember(t, second);
  assert.equal(await inMaintenance(), false, "credentials of the first cluster must not be used for the second");
});
