import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import fc from "fast-check";
import { State } from "#gen/cosi/resource/resource_pb.ts";
import { PlaneService, SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { ManagementService } from "#gen/management/management_pb.ts";
import { cookieName } from "#guard/credential.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { outcome, startApi, type TestApi } from "./fixtures.test.ts";

const services = [State, ManagementService, SessionService, PlaneService];
const paths = services.flatMap((service) => service.methods.map(({ name }) => `/${service.typeName}/${name}`));
const site = "the-name-of-a-cluster";

/** One gRPC call with any body; its status and words. */
async function grpc(t: TestContext, { url, ca }: TestApi, headers: Readonly<Record<string, string>> = {}) {
  const session = connectHttp2(url, { ca });
  t.after(() => session.destroy());
  return (path: string, body: Uint8Array) =>
    new Promise<{ status: number; grpcStatus: string; message: string; body: Buffer }>((resolve, reject) => {
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      });
      const all: Record<string, unknown> = {};
      const chunks: Buffer[] = [];
      stream.on("response", (given) => Object.assign(all, given));
      stream.on("trailers", (given) => Object.assign(all, given));
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("close", () =>
        resolve({
          status: Number(all[":status"]),
          grpcStatus: String(all["grpc-status"]),
          message: decodeURIComponent(String(all["grpc-message"] ?? "")),
          body: Buffer.concat(chunks),
        }),
      );
      stream.end(body);
    });
}
function frame(body: Uint8Array, length = body.length, flags = 0): Uint8Array {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, body]);
}

test("without a credential nothing comes out of any path", async (t) => {
  const api = await startApi(t);
  await api.state.create(ClusterKind, site, { talosVersion: "1.13.9" });
  const silent = (text: string) => assert.ok(!text.includes(site) && !text.includes("1.13.9"), text);
  const call = await grpc(t, api);
  for (const path of paths) {
    const anybody = path.endsWith("/SignIn");
    const bare = await call(path, frame(new Uint8Array()));
    assert.equal(bare.grpcStatus, "16", `${path}: ${bare.message}`);
    silent(bare.body.toString("latin1") + bare.message);
    const headers = { "content-type": "application/json", "connect-protocol-version": "1" };
    const unary = await api.http(path, { method: "POST", headers }, "{}");
    silent(unary.body.toString());
    if (!anybody) assert.ok([401, 415].includes(unary.status), `${path} ${unary.status}`);
    const web = { "content-type": "application/grpc-web+proto" };
    const framed = await api.http(path, { method: "POST", headers: web }, Buffer.from(frame(new Uint8Array())));
    assert.match(JSON.stringify(framed.headers) + framed.body.toString(), /grpc-status"?: ?"?16/, path);
    const got = await api.http(`${path}?connect=v1&encoding=json&message=%7B%7D`);
    assert.ok([401, 404, 405, 415].includes(got.status), `GET ${path} ${got.status}`);
  }
  const metrics = await api.http("/metrics");
  assert.deepEqual([metrics.status, metrics.headers["www-authenticate"]], [401, "Bearer"]);
  for (const path of [
    `/k8s/clusters/${site}/api`,
    "/k8s/clusters/none/api",
    "/k8s/clusters/",
    "/k8s/clusters/%zz/api",
  ]) {
    const { status, body } = await api.http(path);
    assert.ok(status === 401 || status === 400, `${path} ${status}`);
    if (!path.includes(site)) silent(body.toString());
  }
  for (const path of [
    "/",
    "/clusters",
    "/healthz",
    "/readyz",
    "/nothing.json",
    "/../../etc/passwd",
    "/%2e%2e/notes.md",
    "/notes.md",
  ]) {
    const { body } = await api.http(path);
    silent(body.toString());
    assert.match(body.toString(), /^(<!doctype html>|ok\n|not found\n)/, path);
  }
  const unknown = await call("/some.Service/Method", frame(new Uint8Array()));
  assert.deepEqual([unknown.grpcStatus, unknown.body.length], ["12", 0]);
});

test("an upgrade goes to clusters alone, and only with a token", async (t) => {
  const api = await startApi(t);
  const upgrade = (path: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = connectTls({ port: api.port, host: "127.0.0.1", ca: api.ca, ALPNProtocols: ["http/1.1"] });
      let text = "";
      socket.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      socket.on("error", reject).on("end", () => resolve(text));
      socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n`);
    });
  assert.match(await upgrade("/"), /^HTTP\/1\.1 404 /);
  assert.match(await upgrade("/cosi.resource.State/Watch"), /^HTTP\/1\.1 404 /);
  assert.match(await upgrade("/k8s/clusters/shop/api/v1/namespaces/a/pods/b/exec"), /^HTTP\/1\.1 401 /);
});

test("metrics need a token of the role Reader", async (t) => {
  const api = await startApi(t);
  const get = async (authorization: string) => (await api.http("/metrics", { headers: { authorization } })).status;
  assert.equal(await get(`Bearer ${await api.tokenOf("Reader")}`), 200);
  assert.equal(await get(`Bearer ${await api.tokenOf("InfraProvider")}`), 401);
  assert.equal(await get("Bearer junk"), 401);
  assert.equal(await get("Basic YTpi"), 401);
});

test("the console's pages run no script but their own, are not framed, and are revalidated", async (t) => {
  const { http } = await startApi(t);
  const page = await http("/clusters/shop/machines");
  assert.equal(page.status, 200);
  assert.match(page.body.toString(), /<title>Ichor/);
  const { etag, "content-security-policy": policy, ...headers } = page.headers;
  assert.equal(headers["content-type"], "text/html; charset=utf-8");
  assert.equal(headers["cache-control"], "no-cache");
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "no-referrer");
  assert.equal(headers["cross-origin-opener-policy"], "same-origin");
  assert.match(String(policy), /default-src 'none'; script-src 'self'; .*frame-ancestors 'none'/);
  assert.doesNotMatch(String(policy).replace(/style-src [^;]*/, ""), /unsafe|\*|https?:/);
  const again = await http("/", { headers: { "if-none-match": String(etag) } });
  assert.deepEqual([again.status, again.body.length], [304, 0]);
  const head = await http("/", { method: "HEAD" });
  assert.deepEqual([head.status, head.body.length], [200, 0]);
  assert.match(String((await http("/assets/app.js")).headers["cache-control"]), /immutable/);
  for (const method of ["POST", "PUT", "DELETE"]) {
    const refused = await http("/", { method });
    assert.deepEqual([refused.status, refused.headers.allow], [405, "GET, HEAD"]);
  }
});

test("a browser signs in with a cookie that its scripts do not see, and that other sites cannot use", async (t) => {
  const api = await startApi(t);
  const { createSignInLink } = await api.client(SessionService, "Admin");
  const call = (method: string, headers: Readonly<Record<string, string>>, message: object = {}) =>
    api.http(
      `/ichor.v1.SessionService/${method}`,
      { method: "POST", headers: { "content-type": "application/json", ...headers } },
      JSON.stringify(message),
    );
  const { url } = await createSignInLink({});
  assert.ok(url.startsWith(`${api.url}/signin?code=`));
  const code = new URL(url).searchParams.get("code");
  const foreign = await call("SignIn", { "sec-fetch-site": "cross-site" }, { code });
  assert.deepEqual([foreign.status, foreign.headers["set-cookie"]], [403, undefined]);
  const own = { "sec-fetch-site": "same-origin" };
  const signed = await call("SignIn", own, { code });
  assert.equal(signed.status, 200, signed.body.toString());
  const [cookie = ""] = signed.headers["set-cookie"] ?? [];
  assert.match(cookie, new RegExp(`^${cookieName}=[A-Za-z0-9_-]{43}; .*HttpOnly; Secure; SameSite=Strict`));
  const session = cookie.split(";")[0]!;
  assert.ok(!signed.body.toString().includes(session.split("=")[1]!), "the answer holds the token");
  assert.match((await call("SignIn", own, { code })).body.toString(), /used already/);
  assert.deepEqual(JSON.parse((await call("WhoAmI", { ...own, cookie: session })).body.toString()), {
    identity: "admin@example",
    role: "Admin",
  });
  for (const headers of [
    {},
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "none" },
    { origin: "https://evil.example" },
  ] as Record<string, string>[]) {
    const refused = await call("WhoAmI", { ...headers, cookie: session });
    assert.deepEqual([refused.status, /another site/.test(refused.body.toString())], [403, true]);
  }
  const out = await call("SignOut", { ...own, cookie: session });
  assert.match(String(out.headers["set-cookie"]), /^__Host-ichor=; .*1970/);
  assert.equal((await call("WhoAmI", { ...own, cookie: session })).status, 401);
  // A tool gets the token itself.
  const link = await createSignInLink({});
  const tool = await call("SignIn", {}, { code: new URL(link.url).searchParams.get("code") });
  const { token } = JSON.parse(tool.body.toString()) as { token: string };
  assert.equal((await call("WhoAmI", { authorization: `Bearer ${token}` })).status, 200);
});

test("signing out ends the streams of that session at once", async (t) => {
  const api = await startApi(t);
  const { createClient } = await import("@connectrpc/connect");
  const token = await api.tokenOf("Reader");
  const [state, session] = [
    createClient(State, api.transport(token)),
    createClient(SessionService, api.transport(token)),
  ];
  const { namespace, type } = ClusterKind;
  const stream = state.watch({ namespace, type, apiVersion: 1 })[Symbol.asyncIterator]();
  await stream.next();
  const over = stream.next();
  await session.signOut({});
  await assert.rejects(Promise.resolve(over), /signed out/);
});

test("a fault that nobody thought of is told by a number that the log has too, and by nothing else", async (t) => {
  const api = await startApi(t);
  await api.state.create(MachineKind, "faulty", {});
  const client = await api.client(ManagementService, "Reader");
  const { code, message } = await outcome(client.machineLogs({ machineId: "faulty" }));
  assert.equal(code, "Internal");
  const [, incident] = /^internal error; the plane's log has it as incident ([0-9a-f]{8})$/.exec(message) ?? [];
  assert.ok(incident, message);
  assert.ok(api.lines.some((line) => line.includes(incident) && line.includes("ECONNREFUSED")));
});

test("whatever bytes come as a request, the answer is a gRPC status in words, and the plane goes on", async (t) => {
  const api = await startApi(t);
  const authorization = `Bearer ${await api.tokenOf("Admin")}`;
  const call = await grpc(t, api, { authorization });
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.uint8Array({ maxLength: 64 }).map((bytes) => frame(bytes)),
    fc.uint8Array({ maxLength: 64 }).map((bytes) => frame(bytes, bytes.length, 1)),
    fc
      .tuple(fc.uint8Array({ maxLength: 16 }), fc.integer({ min: 0, max: 0xffff_ffff }))
      .map(([bytes, length]) => frame(bytes, length)),
  );
  // Streams that go on for ever when they are understood.
  const finite = paths.filter((path) => !path.endsWith("/Watch") && !path.endsWith("/SignOut"));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...finite), body, async (path, bytes) => {
      const { status, grpcStatus, message } = await call(path, bytes);
      assert.equal(status, 200);
      assert.match(grpcStatus, /^(0|3|5|7|8|9|12|13|16)$/, `${path}: ${message}`);
      if (grpcStatus !== "0") assert.ok(message.length > 0 && message.length < 1000, `${path} ${grpcStatus}`);
      assert.doesNotMatch(message, /incident|node_modules|\bat .*\.ts/);
    }),
    { numRuns: 250 },
  );
  // Larger than anything may be: refused by what it says of itself.
  const huge = await call("/cosi.resource.State/Create", frame(new Uint8Array(10), 0xf000_0000));
  assert.match(huge.message, /larger than|size|protocol error|incomplete|premature/i);
  assert.equal((await api.http("/healthz")).status, 200);
  assert.ok(!api.lines.some((line) => line.startsWith("a call failed unexpectedly")), api.lines.join("\n"));
});

test("whatever JSON comes over Connect, the answer is JSON with a code", async (t) => {
  const api = await startApi(t);
  const headers = { "content-type": "application/json", authorization: `Bearer ${await api.tokenOf("Admin")}` };
  const unary = services.flatMap((service) =>
    service.methods
      .filter(({ methodKind, name }) => methodKind === "unary" && name !== "SignOut")
      .map(({ name }) => `/${service.typeName}/${name}`),
  );
  const text = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.json({ maxDepth: 3 }),
    fc
      .record({ namespace: fc.constant("default"), type: fc.constant(ClusterKind.type), id: fc.anything() })
      .map((value) => JSON.stringify(value) ?? ""),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...unary), text, async (path, body) => {
      const { status, body: answer } = await api.http(path, { method: "POST", headers }, body);
      const parsed = JSON.parse(answer.toString()) as { code?: string; message?: string };
      if (status === 200) return;
      assert.match(parsed.code ?? "", /^[a-z_]+$/, `${path} ${status}`);
      assert.notEqual(parsed.code, "internal", `${path}: ${parsed.message}`);
      assert.ok((parsed.message ?? "").length > 0);
    }),
    { numRuns: 60 },
  );
});
