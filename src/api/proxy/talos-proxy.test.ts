import assert from "node:assert/strict";
import { once } from "node:events";
import {
  connect as connectHttp2,
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2ServerRequest,
} from "node:http2";
import { type TestContext, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { create } from "@bufbuild/protobuf";
import {
  type Client,
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  createContextKey,
  createContextValues,
} from "@connectrpc/connect";
import { compressionGzip, connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { State as CosiState } from "#gen/cosi/resource/resource_pb.ts";
import { DebugService, MachineService } from "#gen/machine/machine_pb.ts";
import { MachineStatusSpec_NetworkStatusSchema, MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterMachineIdentityKind } from "#kinds/cluster/cluster-machine-identity.ts";
import { type Clock, ManualClock, systemClock } from "#lib/clock.ts";
import { silent } from "#lib/log.ts";
import { issue, makeCA, opensslKey } from "#talos/pki.ts";
import type { SecretsBundle } from "#talos/secrets.ts";
import { eventually, listening, makeSite, portOf, type Site } from "./fixtures.test.ts";
import { createTalosProxy, type TalosCaller } from "./talos-proxy.ts";

const callerKey = createContextKey<{ roles: string; headers: Record<string, unknown> }>({ roles: "", headers: {} });

/** What a machine noticed. */
interface Noticed {
  cancelled: number;
  sessions: number;
  calls: { roles: string; headers: Record<string, unknown> }[];
}

/** apid of a machine, by generated stubs: answers who it is and what it saw. */
async function apid(t: TestContext, name: string, address: string, secrets: SecretsBundle | undefined) {
  const noticed: Noticed = { cancelled: 0, sessions: 0, calls: [] };
  const own = secrets
    ? await issue(secrets.os, { usage: "server", ttl: 3_600_000, ips: [address] }, systemClock)
    : await makeCA("ed25519", "maintenance", systemClock);
  const routes = (router: ConnectRouter) => {
    router.service(MachineService, {
      version(_, context) {
        const seen = context.values.get(callerKey);
        noticed.calls.push(seen);
        context.responseTrailer.set("x-of-machine", name);
        return { messages: [{ version: { tag: name }, platform: { name: seen.roles } }] };
      },
      hostname() {
        throw new ConnectError("größer als 100 %", Code.FailedPrecondition);
      },
      async *logs(request, context) {
        yield { bytes: Buffer.from(`${name} ${request.id}`) };
        if (!request.follow) return;
        await once(context.signal, "abort");
        noticed.cancelled++;
      },
      async memory(_, context) {
        await once(context.signal, "abort");
        noticed.cancelled++;
        return {};
      },
      async *read({ path }) {
        yield { bytes: Buffer.alloc(Number(path), 7) };
      },
      async *dmesg() {
        yield { bytes: Buffer.from("first") };
        throw new ConnectError("broke", Code.DataLoss);
      },
    });
    router.service(DebugService, {
      async *containerRun(requests) {
        let count = 0;
        for await (const _ of requests) yield { resp: { case: "stdoutData", value: Buffer.from(`${++count}`) } };
        yield { resp: { case: "exitCode", value: count } };
      },
    });
    router.service(CosiState, { get: () => ({ resource: { metadata: { id: name } } }) });
  };
  const handler = connectNodeAdapter({
    routes,
    connect: false,
    grpcWeb: false,
    readMaxBytes: 33_554_432,
    writeMaxBytes: 33_554_432,
    contextValues(request) {
      const { stream, headers } = request as unknown as Http2ServerRequest;
      const peer = (stream.session!.socket as TLSSocket).getPeerCertificate();
      const organizations: unknown = peer.subject?.O;
      const roles = Array.isArray(organizations) ? organizations.join(",") : String(organizations ?? "");
      return createContextValues().set(callerKey, { roles, headers });
    },
  });
  const mutual = secrets ? { ca: secrets.os.crt, requestCert: true, rejectUnauthorized: true } : {};
  const server = createSecureServer(
    { cert: own.crt, key: opensslKey(own.key), minVersion: "TLSv1.3", ...mutual },
    (req, res) => handler(req, res),
  );
  const open = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    noticed.sessions++;
    open.add(session);
  });
  t.after(() => {
    for (const session of open) session.destroy();
  });
  return {
    server: await listening(t, server as Http2SecureServer),
    noticed,
    cut: () => [...open].map((s) => s.destroy()),
  };
}

interface Clients {
  readonly machine: Client<typeof MachineService>;
  readonly debug: Client<typeof DebugService>;
  readonly state: Client<typeof CosiState>;
}

async function front(t: TestContext, site: Site, caller: Partial<TalosCaller> = {}, clock: Clock = systemClock) {
  const proxy = createTalosProxy({ ...site, clock, log: silent });
  t.after(() => proxy.close());
  const known: TalosCaller = { identity: "ann", roles: ["Operator"], ...caller };
  const server = await listening(
    t,
    createServer((req, res) => void proxy.handle(req, res, known)),
  );
  const session = connectHttp2(`http://127.0.0.1:${portOf(server)}`);
  t.after(() => session.destroy());
  const authority = `http://127.0.0.1:${portOf(server)}`;
  const transport = createGrpcTransport({
    baseUrl: authority,
    sendCompression: compressionGzip,
    compressMinBytes: 100,
    readMaxBytes: 33_554_432,
    sessionManager: {
      authority,
      request: async (method, path, headers, options) =>
        session.request({ ...headers, ":method": method, ":path": path }, options),
      notifyResponseByteRead() {},
    },
  });
  const clients: Clients = {
    machine: createClient(MachineService, transport),
    debug: createClient(DebugService, transport),
    state: createClient(CosiState, transport),
  };
  return { ...clients, session };
}

const addresses = ["a", "b", "c"].map((end) => `fdae:41e4:649b:9303::${end}`);

const networkOf = (hostname: string, ...own: string[]) =>
  create(MachineStatusSpec_NetworkStatusSchema, { hostname, addresses: own });

/** Cluster `one`: two control planes and a worker, named `one-0` to `one-2`, UUIDs `id-0` to `id-2`. */
async function working(t: TestContext, caller: Partial<TalosCaller> = {}) {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  const all = [];
  for (const [index, address] of addresses.entries()) {
    const made = await apid(t, `one-${index}`, address, secrets);
    site.route(address, 50_000, made.server);
    await site.addMachine(`id-${index}`, {
      cluster: "one",
      managementAddress: address,
      talosVersion: "v1.13.0",
      role: index < 2 ? MachineStatusSpec_Role.CONTROL_PLANE : MachineStatusSpec_Role.WORKER,
      network: networkOf(`one-${index}`, `192.0.2.${index + 1}/24`, "fe80::1/64"),
    });
    all.push(made);
  }
  return { site, secrets, all, ...(await front(t, site, caller)) };
}

async function refused(answer: Promise<unknown>, code: Code, message: RegExp): Promise<void> {
  await assert.rejects(answer, (error) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.message);
    assert.match(error.rawMessage, message);
    return true;
  });
}

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

test("one node, by any of its names: the reply as it is, with the role of the caller", async (t) => {
  const { site, machine, all } = await working(t);
  await site.state.create(ClusterMachineIdentityKind, "id-1", { nodename: "Node-One", nodeIps: ["198.51.100.1"] });
  for (const node of [
    "id-1",
    "one-1",
    "ONE-1",
    "node-one",
    "192.0.2.2",
    "198.51.100.1",
    addresses[1]!,
    `[${addresses[1]}]`,
  ]) {
    const trailers = Promise.withResolvers<Headers>();
    const headers = { node, "talos-role": "os:admin", authorization: "secret", context: "one", "x-other": "1" };
    const answer = await machine.version({}, { headers, onTrailer: (fields) => trailers.resolve(fields) });
    assert.equal(answer.messages[0]?.version?.tag, "one-1", node);
    assert.equal(answer.messages[0].metadata, undefined);
    assert.equal((await trailers.promise).get("x-of-machine"), "one-1");
  }
  const [call] = all[1]!.noticed.calls;
  assert.equal(call?.roles, "os:operator");
  for (const name of ["node", "talos-role", "authorization", "context", "x-other"])
    assert.equal(call.headers[name], undefined, name);
  assert.equal(all[1]!.noticed.sessions, 1, "calls share a connection");
});

test("names that are unknown, ambiguous or of another cluster are refused", async (t) => {
  const { site, machine } = await working(t);
  await site.addCluster("two");
  const network = networkOf("one-0", "192.0.2.1/24");
  await site.addMachine("other", { cluster: "two", managementAddress: "fdae:41e4:649b:9303::f", network });
  await refused(machine.version({}, { headers: { node: "nobody" } }), Code.NotFound, /no machine goes by "nobody"/);
  await refused(machine.version({}, { headers: { node: "one-0" } }), Code.InvalidArgument, /means 2 machines.*"two"/);
  await refused(machine.version({}, { headers: { node: "id-1", context: "two" } }), Code.NotFound, /in cluster "two"/);
  const answer = await machine.version({}, { headers: { node: "one-0", context: "one" } });
  assert.equal(answer.messages[0]?.version?.tag, "one-0");
  await refused(machine.version({}), Code.InvalidArgument, /neither a node nor a cluster/);
  await refused(machine.version({}, { headers: { context: "three" } }), Code.NotFound, /cluster "three"/);
});

test("no node: the control planes of the cluster in turn", async (t) => {
  const { machine } = await working(t, { cluster: "one" });
  const tags = [];
  for (let call = 0; call < 4; call++) tags.push((await machine.version({})).messages[0]?.version?.tag);
  assert.deepEqual(tags, ["one-0", "one-1", "one-0", "one-1"]);
});

test("several nodes: replies put together, failures as entries", async (t) => {
  const { site, machine } = await working(t);
  site.route(addresses[1]!, 50_000, undefined);
  const headers = new Headers({ context: "one" });
  for (const node of ["one-0", "192.0.2.2", "nobody", "id-2"]) headers.append("nodes", node);
  const { messages } = await machine.version({}, { headers });
  assert.deepEqual(
    messages.map(({ metadata, version }) => [metadata?.hostname, version?.tag, metadata?.status?.code]),
    [
      ["one-0", "one-0", undefined],
      ["192.0.2.2", undefined, Code.Unavailable],
      ["nobody", undefined, Code.NotFound],
      ["id-2", "one-2", undefined],
    ],
  );
  assert.match(messages[2]?.metadata?.error ?? "", /^rpc error: code = NotFound desc = no machine/);
  const failed = await machine.hostname({}, { headers: { nodes: "one-0" } });
  assert.equal(failed.messages[0]?.metadata?.status?.message, "größer als 100 %");
});

test("several nodes: streams interleaved, cut short with the caller", async (t) => {
  const { machine, all } = await working(t);
  const headers = { nodes: "one-0, one-1,nobody" };
  const items = await collect(machine.logs({ id: "kubelet" }, { headers }));
  const seen = items.map(({ metadata, bytes }) => `${metadata?.hostname}: ${metadata?.error || Buffer.from(bytes)}`);
  assert.deepEqual(seen.sort(), [
    'nobody: rpc error: code = NotFound desc = no machine goes by "nobody"',
    "one-0: one-0 kubelet",
    "one-1: one-1 kubelet",
  ]);
  const broken = await collect(machine.dmesg({}, { headers: { nodes: "one-0" } }));
  assert.deepEqual(
    broken.map(({ metadata, bytes }) => metadata?.error || String(Buffer.from(bytes))),
    ["first", "rpc error: code = DataLoss desc = broke"],
  );
  const cancel = new AbortController();
  const open = machine.logs({ id: "x", follow: true }, { headers: { nodes: "one-0,one-1" }, signal: cancel.signal });
  let count = 0;
  await assert.rejects(async () => {
    for await (const _ of open) if (++count === 2) cancel.abort();
  });
  await eventually(() => all[0]!.noticed.cancelled + all[1]!.noticed.cancelled === 2, "both machines see it end");
});

test("methods for one node at a time refuse several", async (t) => {
  const { state } = await working(t);
  await refused(
    state.get({}, { headers: { nodes: "one-0", runtime: "Talos" } }),
    Code.InvalidArgument,
    /one node at a time/,
  );
  const found = await state.get({ id: "x" }, { headers: { node: "one-0", runtime: "Talos" } });
  assert.equal(found.resource?.metadata?.id, "one-0");
});

test("errors, both directions, half-close, compression and large messages pass", async (t) => {
  const { machine, debug, all } = await working(t);
  const headers = { node: "one-0" };
  await refused(machine.hostname({}, { headers }), Code.FailedPrecondition, /größer als 100 %/);
  const items = await collect(machine.dmesg({}, { headers })).catch((error: ConnectError) => error);
  assert.equal((items as ConnectError).code, Code.DataLoss);
  async function* requests() {
    for (let index = 0; index < 3; index++) yield {};
  }
  const echoed = await collect(debug.containerRun(requests(), { headers }));
  assert.deepEqual(
    echoed.map(({ resp }) => (resp.case === "exitCode" ? resp.value : String(Buffer.from(resp.value as Uint8Array)))),
    ["1", "2", "3", 3],
  );
  const size = 31 * 1024 * 1024;
  const [large] = await collect(machine.read({ path: String(size) }, { headers }));
  assert.equal(large?.bytes.length, size);
  const long = await collect(machine.logs({ id: "z".repeat(1000) }, { headers }));
  assert.equal(String(Buffer.from(long[0]!.bytes)), `one-0 ${"z".repeat(1000)}`, "a compressed request");
  assert.ok(all[0]);
});

test("deadlines and cancellations reach the machine", async (t) => {
  const { machine, all } = await working(t);
  const { noticed } = all[0]!;
  await refused(machine.memory({}, { headers: { node: "one-0" }, timeoutMs: 150 }), Code.DeadlineExceeded, /./);
  await eventually(() => noticed.cancelled === 1, "the machine sees the deadline");
  await refused(machine.memory({}, { headers: { nodes: "one-0" }, timeoutMs: 150 }), Code.DeadlineExceeded, /./);
  await eventually(() => noticed.cancelled === 2, "the machine sees the deadline");
  const cancel = new AbortController();
  const call = machine.memory({}, { headers: { node: "one-0" }, signal: cancel.signal });
  setImmediate(() => cancel.abort());
  await refused(call, Code.Canceled, /./);
  const watch = new AbortController();
  const follow = machine.logs({ follow: true }, { headers: { node: "one-0" }, signal: watch.signal });
  await assert.rejects(async () => {
    for await (const _ of follow) watch.abort();
  });
  await eventually(() => noticed.cancelled >= 3, "the machine sees the caller leave");
});

test("what the plane owns is refused with what to do instead", async (t) => {
  const { machine, state } = await working(t);
  const headers = { node: "one-0" };
  await refused(machine.reset({}, { headers }), Code.PermissionDenied, /Reset is not available.*template/);
  await refused(machine.upgrade({}, { headers }), Code.PermissionDenied, /Talos version/);
  await refused(machine.bootstrap({}, { headers }), Code.PermissionDenied, /by itself/);
  await refused(machine.applyConfiguration({}, { headers }), Code.PermissionDenied, /config patch/);
  await refused(collect(machine.kubeconfig({}, { headers })), Code.PermissionDenied, /ichor kubeconfig/);
  await refused(
    state.destroy({}, { headers: { ...headers, runtime: "Talos" } }),
    Code.PermissionDenied,
    /only be read/,
  );
});

test("roles: readers read, and a cluster may give other ones", async (t) => {
  const reader = await working(t, { roles: ["Reader"] });
  await reader.machine.version({}, { headers: { node: "one-0" } });
  assert.equal(reader.all[0]!.noticed.calls[0]?.roles, "os:reader");
  const some = await front(t, reader.site, { roles: async (cluster) => (cluster === "one" ? ["Operator"] : []) });
  await some.machine.version({}, { headers: { node: "one-0" } });
  assert.equal(reader.all[0]!.noticed.calls[1]?.roles, "os:operator");
  const nobody = await front(t, reader.site, { roles: ["None"] });
  await refused(nobody.machine.version({}, { headers: { node: "one-0" } }), Code.PermissionDenied, /no role/);
  const { messages } = await nobody.machine.version({}, { headers: { nodes: "one-0" } });
  assert.equal(messages[0]?.metadata?.status?.code, Code.PermissionDenied);
});

test("a machine without a cluster is reached in maintenance, by operators", async (t) => {
  const site = makeSite(t);
  const { server } = await apid(t, "fresh", addresses[0]!, undefined);
  site.route(addresses[0]!, 50_000, server);
  await site.addMachine("id", { managementAddress: addresses[0]!, role: MachineStatusSpec_Role.NONE });
  const operator = await front(t, site);
  const { messages } = await operator.machine.version({}, { headers: { node: "id" } });
  assert.equal(messages[0]?.version?.tag, "fresh");
  const reader = await front(t, site, { roles: ["Reader"] });
  await refused(reader.machine.version({}, { headers: { node: "id" } }), Code.PermissionDenied, /needs role Operator/);
});

test("a machine that is not of its cluster, does not answer, or comes back", async (t) => {
  const { site, machine, all } = await working(t);
  const impostor = await apid(t, "impostor", addresses[0]!, await site.addCluster("two"));
  site.route(addresses[0]!, 50_000, impostor.server);
  await refused(machine.version({}, { headers: { node: "one-0" } }), Code.Unauthenticated, /not of this cluster/);
  site.route(addresses[0]!, 50_000, undefined);
  await refused(machine.version({}, { headers: { node: "one-0" } }), Code.Unavailable, /does not answer/);
  site.route(addresses[0]!, 50_000, all[0]!.server);
  await machine.version({}, { headers: { node: "one-0" } });
  const waiting = machine.memory({}, { headers: { node: "one-0" } });
  waiting.catch(() => {});
  await machine.version({}, { headers: { node: "one-0" } });
  all[0]!.cut();
  await refused(waiting, Code.Unavailable, /broke the connection/);
  await eventually(async () => {
    return machine.version({}, { headers: { node: "one-0" } }).then(
      () => true,
      () => false,
    );
  }, "it is reached again");
});

test("a machine that cannot be dialled in time is told as such, and not dialled twice", async (t) => {
  const { site } = await working(t);
  let dials = 0;
  const dial = async () => {
    dials++;
    throw new DOMException("The operation was aborted due to timeout", "TimeoutError");
  };
  const { machine } = await front(t, { ...site, dial });
  await refused(machine.version({}, { headers: { node: "one-0" } }), Code.Unavailable, /does not answer/);
  assert.equal(dials, 1);
});

test("a machine that falls silent is given up, one that is slow is not", async (t) => {
  const { site } = await working(t);
  const clock = new ManualClock(Date.now());
  const { machine } = await front(t, site, {}, clock);
  await machine.version({}, { headers: { node: "one-0" } });
  const waiting = machine.memory({}, { headers: { node: "one-0" } });
  waiting.catch(() => {});
  await machine.version({}, { headers: { node: "one-0" } });
  clock.advance(8000);
  clock.advance(60_000);
  await machine.version({}, { headers: { node: "one-0" } });
  site.route(addresses[0]!, 50_000, undefined);
  let over = false;
  waiting.catch(() => {
    over = true;
  });
  await eventually(() => {
    clock.advance(60_000);
    return over;
  }, "the call that waits is ended");
  await refused(waiting, Code.Unavailable, /broke the connection/);
});

test("a call that is no gRPC gets an answer too", async (t) => {
  const { session } = await working(t);
  for (const path of ["/", "/nonsense", "/machine.MachineService/Nothing"]) {
    const stream = session.request({ ":method": "POST", ":path": path, node: "one-0" });
    stream.end("not a frame");
    const [headers] = (await once(stream, "response")) as [Record<string, string>];
    stream.resume();
    assert.ok(headers[":status"]);
    await once(stream, "close");
  }
});
