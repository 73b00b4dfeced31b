import assert from "node:assert/strict";
import { createServer as createHttp, request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2, createServer as createHttp2 } from "node:http2";
import { createServer as createHttps, type Server as HttpsServer } from "node:https";
import type { Duplex } from "node:stream";
import { buffer, json, text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import type { TLSSocket } from "node:tls";
import fc from "fast-check";
import { ClusterUUIDKind } from "#kinds/cluster/cluster-uuid.ts";
import { type Clock, ManualClock, systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { issue } from "#talos/pki.ts";
import type { SecretsBundle } from "#talos/secrets.ts";
import { closed, eventually, listening, makeSite, portOf, type Site } from "./fixtures.test.ts";
import { createKubernetesProxy, type KubernetesCaller, parsePath } from "./kubernetes-proxy.ts";

const tokens: Record<string, KubernetesCaller> = {
  good: { identity: "ann@example.org", cluster: "one", groups: ["system:masters", "team ü"] },
  none: { identity: "ann@example.org", cluster: "one", groups: [] },
  old: { identity: "ann@example.org", cluster: "one", clusterUUID: "before", groups: ["g"] },
  stranger: { identity: "bob", cluster: "two", groups: ["g"] },
};
const bearer = { authorization: "Bearer good" };
const address = "fdae:41e4:649b:9303::a";

async function apiServer(
  t: TestContext,
  secrets: SecretsBundle,
  handle: (req: IncomingMessage, res: import("node:http").ServerResponse) => void = echo,
): Promise<HttpsServer> {
  const options = { usage: "server", ttl: 3_600_000, dnsNames: ["localhost", "kubernetes"] } as const;
  const { crt, key } = await issue(secrets.kubernetes, options, systemClock);
  const server = createHttps({ cert: crt, key, ca: secrets.kubernetes.crt, requestCert: true }, handle);
  server.on("upgrade", (req, socket: Duplex, head) => {
    if (req.url?.startsWith("/refuse")) {
      socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnope");
      return;
    }
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${req.headers.upgrade}\r\n`);
    socket.write(`X-Seen: ${req.headers["impersonate-user"]} ${req.headers["sec-websocket-protocol"] ?? "-"}\r\n\r\n`);
    socket.write(head);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  return listening(t, server);
}

/** Answers with what it saw. */
function echo(req: IncomingMessage, res: import("node:http").ServerResponse): void {
  buffer(req).then(
    (body) => {
      const { subject } = (req.socket as TLSSocket).getPeerCertificate();
      const seen = { method: req.method, url: req.url, headers: req.headers, body: body.toString("base64"), subject };
      res.writeHead(200, { "content-type": "application/json", "set-cookie": "a=b", "x-of-cluster": "1" });
      res.end(JSON.stringify(seen));
    },
    () => {},
  );
}

interface Seen {
  method: string;
  url: string;
  headers: Record<string, string>;
  body: string;
  subject: { CN: string; O: string };
}

async function front(t: TestContext, site: Site, clock: Clock = systemClock) {
  const audited: object[] = [];
  const proxy = createKubernetesProxy({
    ...site,
    clock,
    log: silent,
    audit: (entry) => audited.push(entry),
    verify: async (token) => {
      const caller = tokens[token];
      if (!caller) throw new IchorError("unauthenticated", "the token is not valid");
      return caller;
    },
  });
  t.after(() => proxy.close());
  const http1 = await listening(
    t,
    createHttp((req, res) => void proxy.handle(req, res)),
  );
  http1.on("upgrade", (req, socket, head) => void proxy.upgrade(req, socket, head));
  const http2 = await listening(
    t,
    createHttp2((req, res) => void proxy.handle(req, res)),
  );
  const session: ClientHttp2Session = connectHttp2(`http://127.0.0.1:${portOf(http2)}`);
  t.after(() => session.destroy());
  return { base: `http://127.0.0.1:${portOf(http1)}`, port: portOf(http1), session, audited };
}

async function working(t: TestContext) {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  const api = await apiServer(t, secrets);
  site.route(address, 6443, api);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  return { site, secrets, ...(await front(t, site)) };
}

test("a request reaches the API server as the user of the token, with the plane's certificate", async (t) => {
  const { base, audited } = await working(t);
  const answer = await fetch(`${base}/k8s/clusters/one/api/v1/pods?limit=5`, {
    method: "POST",
    body: "hello",
    headers: { ...bearer, "impersonate-uid": "0", "impersonate-extra-x": "y", "x-remote-user": "root", cookie: "s=1" },
  });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("set-cookie"), null);
  assert.equal(answer.headers.get("x-of-cluster"), "1");
  const seen = (await answer.json()) as Seen;
  assert.equal(seen.url, "/api/v1/pods?limit=5");
  assert.equal(Buffer.from(seen.body, "base64").toString(), "hello");
  assert.equal(seen.headers["impersonate-user"], "ann@example.org");
  assert.equal(Buffer.from(seen.headers["impersonate-group"] ?? "", "latin1").toString(), "system:masters, team ü");
  for (const name of ["authorization", "cookie", "impersonate-uid", "impersonate-extra-x", "x-remote-user"])
    assert.equal(seen.headers[name], undefined, name);
  assert.deepEqual({ ...seen.subject }, { O: "system:masters", CN: "omni:admin" });
  assert.deepEqual(audited, [
    { method: "POST", uri: "/api/v1/pods?limit=5", identity: "ann@example.org", cluster: "one" },
  ]);
});

test("refusals are Status objects", async (t) => {
  const { base, site } = await working(t);
  await site.state.create(ClusterUUIDKind, "one", { uuid: "now" });
  const cases: [string, Record<string, string>, number, string][] = [
    ["/k8s/clusters/one/api", {}, 401, "Unauthorized"],
    ["/k8s/clusters/one/api", { authorization: "Bearer bad" }, 401, "Unauthorized"],
    ["/k8s/clusters/one/api", { authorization: "Basic Z29vZDo=" }, 401, "Unauthorized"],
    ["/k8s/clusters/one/api", { authorization: "Bearer stranger" }, 403, "Forbidden"],
    ["/k8s/clusters/one/api", { authorization: "Bearer none" }, 403, "Forbidden"],
    ["/k8s/clusters/one/api", { authorization: "Bearer old" }, 403, "Forbidden"],
    ["/k8s/clusters/two/api", { authorization: "Bearer stranger" }, 404, "NotFound"],
    ["/k8s/clusters/%E0/api", bearer, 400, "BadRequest"],
  ];
  for (const [path, headers, status, reason] of cases) {
    const answer = await fetch(base + path, { headers });
    const body = (await answer.json()) as { kind: string; code: number; reason: string; message: string };
    assert.equal(answer.status, status, `${path} ${JSON.stringify(headers)}: ${body.message}`);
    assert.equal(answer.headers.get("content-type"), "application/json");
    assert.deepEqual([body.kind, body.code, body.reason], ["Status", status, reason]);
    assert.ok(!JSON.stringify(body).includes("PRIVATE"));
  }
});

test("HTTP/2 works, also with a body of unknown length", async (t) => {
  const { session } = await working(t);
  for (const method of ["POST", "DELETE"]) {
    const stream = session.request(
      { ":method": method, ":path": "/k8s/clusters/one/apis?x=1", ...bearer },
      { endStream: false },
    );
    stream.write("a".repeat(100_000));
    stream.end("b");
    const seen = (await json(stream)) as Seen;
    assert.equal(Buffer.from(seen.body, "base64").length, 100_001);
    assert.equal(seen.url, "/apis?x=1");
    assert.equal(seen.method, method);
    assert.equal(
      Object.keys(seen.headers).some((name) => name.startsWith(":")),
      false,
    );
  }
  const get = session.request({ ":path": "/version", ...bearer });
  assert.equal(((await json(get)) as Seen).url, "/version");
});

test("a watch streams at once, and a caller that leaves ends it upstream", async (t) => {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  let closed = 0;
  let send: (line: string) => void = () => {};
  const api = await apiServer(t, secrets, (_, res) => {
    res.writeHead(200, { "content-type": "application/json" });
    res.flushHeaders();
    send = (line) => void res.write(line);
    res.once("close", () => closed++);
  });
  site.route(address, 6443, api);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  const { base, session } = await front(t, site);

  const cancel = new AbortController();
  const answer = await fetch(`${base}/k8s/clusters/one/api/v1/pods?watch=1`, {
    headers: bearer,
    signal: cancel.signal,
  });
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (const line of ["one\n", "two\n"]) {
    send(line);
    assert.equal((await reader.read()).value, line);
  }
  cancel.abort();
  await eventually(() => closed === 1, "the API server sees the caller of HTTP/1.1 leave");

  const stream = session.request({ ":path": "/k8s/clusters/one/api/v1/pods?watch=1", ...bearer });
  await new Promise((resolve) => stream.once("response", resolve));
  send("three\n");
  assert.equal(String((await new Promise((resolve) => stream.once("data", resolve))) as Buffer), "three\n");
  stream.close(8);
  await eventually(() => closed === 2, "the API server sees the caller of HTTP/2 leave");
});

test("an answer that breaks off does not look whole", async (t) => {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  const api = await apiServer(t, secrets, (req, res) => {
    res.writeHead(200, req.url === "/length" ? { "content-length": 1000 } : {});
    res.write("part", () => res.destroy());
  });
  site.route(address, 6443, api);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  const { base, session } = await front(t, site);
  for (const path of ["/length", "/chunks"]) {
    await assert.rejects(
      async () => (await fetch(`${base}/k8s/clusters/one${path}`, { headers: bearer })).text(),
      path,
    );
    await assert.rejects(text(session.request({ ":path": `/k8s/clusters/one${path}`, ...bearer })), path);
  }
});

test("another control plane takes over, a POST is sent once", async (t) => {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  const posts: string[] = [];
  const make = (name: string) =>
    apiServer(t, secrets, (req, res) => {
      if (req.method === "POST") posts.push(name);
      buffer(req).then(
        () => res.end(name),
        () => {},
      );
    });
  const [first, second] = [await make("first"), await make("second")];
  const other = "fdae:41e4:649b:9303::b";
  site.route(address, 6443, first);
  site.route(other, 6443, second);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  await site.addMachine("m2", { cluster: "one", managementAddress: other });
  const { base } = await front(t, site);
  const ask = async (method: string) => {
    const answer = await fetch(`${base}/k8s/clusters/one/x`, { method, headers: bearer });
    return answer.text();
  };
  assert.equal(await ask("GET"), "first");
  site.route(address, 6443, undefined);
  first.closeAllConnections();
  assert.equal(await ask("POST"), "second");
  assert.equal(await ask("GET"), "second");
  site.route(other, 6443, undefined);
  second.closeAllConnections();
  const none = await fetch(`${base}/k8s/clusters/one/x`, { headers: bearer });
  assert.equal(none.status, 502);
  assert.match(((await none.json()) as { message: string }).message, /no control plane of cluster "one" answers/);
  site.route(address, 6443, first);
  assert.equal(await ask("POST"), "first");
  assert.deepEqual(posts, ["second", "first"]);
});

test("a connection that the API server ended is not used again", async (t) => {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  let open = 0;
  const api = await apiServer(t, secrets);
  api.on("secureConnection", (socket) => {
    open++;
    socket.once("close", () => open--);
  });
  site.route(address, 6443, api);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  const { base } = await front(t, site);
  for (let round = 0; round < 3; round++) {
    const answer = await fetch(`${base}/k8s/clusters/one/x`, { method: "POST", body: "a", headers: bearer });
    assert.equal(answer.status, 200);
    await answer.text();
    await eventually(() => {
      api.closeIdleConnections();
      return open === 0;
    }, "the API server lets idle connections go");
  }
});

test("a control plane that falls silent is left, waiting callers too", async (t) => {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  let waiting = 0;
  const mute = await apiServer(t, secrets, (req, res) => {
    waiting++;
    if (req.url === "/watch") res.writeHead(200).write("start");
  });
  const other = "fdae:41e4:649b:9303::b";
  const well = await apiServer(t, secrets, (_, res) => void res.end("second"));
  site.route(address, 6443, mute);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  const clock = new ManualClock(Date.now());
  const { base } = await front(t, site, clock);
  const ask = (path: string, method = "GET") => fetch(`${base}/k8s/clusters/one${path}`, { method, headers: bearer });

  const watch = (await ask("/watch")).text();
  const broken = assert.rejects(watch);
  const get = ask("/get");
  const post = ask("/post", "POST");
  await eventually(() => waiting === 3, "all wait");
  clock.advance(8000);
  const later = ask("/late");
  await eventually(() => waiting === 4, "one that is slow is not cut");
  site.route(other, 6443, well);
  await site.addMachine("m2", { cluster: "one", managementAddress: other });
  site.route(address, 6443, undefined);
  await eventually(async () => {
    clock.advance(60_000);
    return (await Promise.race([post, undefined]))?.status === 502;
  }, "the POST is not sent again");
  assert.match(((await (await post).json()) as { message: string }).message, /does not answer any more/);
  assert.equal(await (await get).text(), "second");
  assert.equal(await (await later).text(), "second");
  await broken;
});

test("connections go with the link of their machine", async (t) => {
  const { site, port } = await working(t);
  const opened = await upgrade(port, "/k8s/clusters/one/exec", { ...bearer, upgrade: "websocket" });
  opened.socket!.resume();
  const gone = closed(opened.socket!);
  await site.addMachine("m1", { connected: false });
  await gone;
});

test("the plane's certificate is renewed at half its life; what runs goes on", async (t) => {
  const site = makeSite(t);
  const secrets = await site.addCluster("one");
  const serials: string[] = [];
  let send: (line: string) => void = () => {};
  const api = await apiServer(t, secrets, (req, res) => {
    serials.push((req.socket as TLSSocket).getPeerCertificate().serialNumber);
    if (req.url === "/watch") {
      res.writeHead(200).flushHeaders();
      send = (line) => void res.end(line);
    } else res.end("ok");
  });
  site.route(address, 6443, api);
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  const hour = 3_600_000;
  const clock = new ManualClock(Date.now() - 11.5 * hour);
  const { base } = await front(t, site, clock);
  const ask = async (path: string) => fetch(`${base}/k8s/clusters/one${path}`, { headers: bearer });
  const watch = await ask("/watch");
  await (await ask("/a")).text();
  clock.advance(12 * hour);
  await (await ask("/b")).text();
  assert.equal(new Set(serials).size, 2);
  assert.notEqual(serials[2], serials[1]);
  send("the end");
  assert.equal(await watch.text(), "the end");
});

test("an API server of another CA is not trusted", async (t) => {
  const site = makeSite(t);
  await site.addCluster("one");
  site.route(address, 6443, await apiServer(t, await site.addCluster("two")));
  await site.addMachine("m1", { cluster: "one", managementAddress: address });
  const { base } = await front(t, site);
  const answer = await fetch(`${base}/k8s/clusters/one/api`, { headers: bearer });
  assert.equal(answer.status, 502);
});

/** Opens an upgrade and answers the head and the connection. */
function upgrade(port: number, path: string, headers: Record<string, string>, method = "GET") {
  return new Promise<{ status: number; headers: Record<string, unknown>; socket?: Duplex; body?: Promise<string> }>(
    (resolve, reject) => {
      const req = httpRequest({
        port,
        host: "127.0.0.1",
        path,
        method,
        headers: { connection: "Upgrade", ...headers },
      });
      req.once("upgrade", (res, socket) => resolve({ status: 101, headers: res.headers, socket }));
      req.once("response", (res) => resolve({ status: res.statusCode ?? 0, headers: res.headers, body: text(res) }));
      req.once("error", reject);
      req.end();
    },
  );
}

test("WebSocket and SPDY connections pass raw, half-close included", async (t) => {
  const { port } = await working(t);
  for (const [protocol, method] of [
    ["websocket", "GET"],
    ["SPDY/3.1", "POST"],
  ] as const) {
    const path = "/k8s/clusters/one/api/v1/namespaces/a/pods/b/exec";
    const opened = await upgrade(port, path, { ...bearer, upgrade: protocol }, method);
    assert.equal(opened.status, 101);
    assert.equal(opened.headers.upgrade, protocol);
    assert.equal(opened.headers["x-seen"], "ann@example.org -");
    const socket = opened.socket!;
    const sent = Buffer.alloc(300_000, "payload");
    socket.end(sent);
    assert.deepEqual(await buffer(socket), sent);
  }
});

test("a browser's token in the subprotocol is used and goes no further", async (t) => {
  const { port } = await working(t);
  const token = `base64url.bearer.authorization.k8s.io.${Buffer.from("good").toString("base64url")}`;
  const headers = { upgrade: "websocket", "sec-websocket-protocol": `${token}, v5.channel.k8s.io` };
  const opened = await upgrade(port, "/k8s/clusters/one/exec", headers);
  assert.equal(opened.headers["x-seen"], "ann@example.org v5.channel.k8s.io");
  opened.socket?.destroy();
});

test("a refused upgrade tells why", async (t) => {
  const { port } = await working(t);
  const ours = await upgrade(port, "/k8s/clusters/one/exec", { upgrade: "websocket" });
  assert.equal(ours.status, 401);
  assert.equal(JSON.parse((await ours.body) ?? "").reason, "Unauthorized");
  const theirs = await upgrade(port, "/k8s/clusters/one/refuse", { ...bearer, upgrade: "websocket" });
  assert.equal(theirs.status, 403);
  assert.equal(await theirs.body, "nope");
});

test("a path is split or refused, whatever it is", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((rest) => `/k8s/clusters/${rest}`),
      ),
      (url) => {
        try {
          const { path } = parsePath(url);
          assert.match(path, /^\/[\x21-\x7e]*$/);
        } catch (error) {
          assert.ok(error instanceof IchorError && error.code === "invalid_argument");
        }
      },
    ),
  );
  assert.deepEqual(parsePath("/k8s/clusters/a"), { cluster: "a", path: "/" });
  assert.deepEqual(parsePath("/k8s/clusters/a?b=c"), { cluster: "a", path: "/?b=c" });
  assert.deepEqual(parsePath("/api/v1"), { path: "/api/v1" });
});
