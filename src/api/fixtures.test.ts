import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import { type RequestOptions, request } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Registry } from "prom-client";
import { Sessions } from "#guard/sessions.ts";
import { ManualClock, systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import { makeJoinToken } from "#link/join-token.ts";
import type { Role } from "#resource/kind.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import { issue, makeCA } from "#talos/pki.ts";
import { createApi } from "./api.ts";
import { KubernetesTokens } from "./kubernetes-token.ts";
import { createKubernetesProxy } from "./proxy/kubernetes-proxy.ts";
import { MachineIndex } from "./proxy/machine-index.ts";
import { createTalosProxy } from "./proxy/talos-proxy.ts";

/** An answer over HTTP/1.1, whole. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** The plane's one port as it is, over a store in memory; no machine answers behind it. */
export interface TestApi {
  readonly url: string;
  readonly ca: string;
  readonly port: number;
  readonly state: State;
  readonly sessions: Sessions;
  readonly clock: ManualClock;
  readonly tokens: KubernetesTokens;
  /** What was logged, a line each. */
  readonly lines: readonly string[];
  tokenOf(role: Role): Promise<string>;
  /** A gRPC client with that role's token, or with none. */
  client<S extends DescService>(service: S, role?: Role): Promise<Client<S>>;
  transport(token?: string): Transport;
  http(path: string, options?: RequestOptions, body?: string | Buffer): Promise<Answer>;
}

const authority = makeCA("p256", "ichor", systemClock);

/** New for each test; ends with it. */
export async function startApi(t: TestContext): Promise<TestApi> {
  const stop = new AbortController();
  const clock = new ManualClock(Date.now());
  const store = new MemoryStore({ clock });
  const state = new State(store);
  const lines: string[] = [];
  const write = (facts: object, message: string) => void lines.push(`${message} ${JSON.stringify(facts)}`);
  const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };
  const sessions = new Sessions({ state, clock, log });
  const tokens = new KubernetesTokens(state, clock);
  const ca = await authority;
  const machines = new MachineIndex({ state, clock: systemClock, log, signal: stop.signal });
  const dial = async () => {
    throw new IchorError("unavailable", "no machine answers in this test");
  };
  const inside = { state, dial, machines, clock: systemClock, log };
  const kubernetes = createKubernetesProxy({ ...inside, verify: (token) => tokens.verify(token) });
  const talos = createTalosProxy(inside);
  const own = await issue(
    ca,
    { commonName: "ichor", usage: "server", ttl: 3_600_000, dnsNames: ["localhost"], ips: ["127.0.0.1"] },
    systemClock,
  );
  const server = createSecureServer({
    allowHTTP1: true,
    requestCert: true,
    rejectUnauthorized: false,
    ca: ca.crt,
    cert: own.crt,
    key: own.key,
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("sessionError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const url = `https://127.0.0.1:${port}`;
  const consoleDirectory = mkdtempSync(join(tmpdir(), "ichor-console-"));
  mkdirSync(join(consoleDirectory, "assets"));
  writeFileSync(join(consoleDirectory, "index.html"), "<!doctype html><title>Ichor</title>\n");
  writeFileSync(join(consoleDirectory, "assets/app.js"), "export {};\n");
  writeFileSync(join(consoleDirectory, "notes.md"), "not for the web\n");
  const api = createApi({
    store,
    state,
    clock,
    log,
    sessions,
    tokens,
    kubernetes,
    talos: talos.handle,
    ca,
    consoleDirectory,
    makeJoinToken,
    metrics: new Registry(),
    url: () => new URL(url),
    joinTarget: (joinToken, tunnel) => ({
      apiUrl: "grpc://192.0.2.1:8090",
      joinToken,
      tunnel,
      planeAddress: "fdae:41e4:649b:9303::1",
      eventsPort: 8090,
      logsPort: 8092,
    }),
    logs: {
      tail: async (uuid, count) => {
        // A fault that nobody thought of.
        if (uuid === "faulty") throw new Error("connect ECONNREFUSED with the password hunter2");
        return Array.from({ length: count }, (_, n) => `${uuid} ${n}`);
      },
      async *follow(uuid, count) {
        yield `${uuid} follows ${count}`;
      },
    },
    facts: { state, version: "test", started: clock.now(), graph: () => "digraph {}" },
  });
  server.on("request", api.handle);
  server.on("upgrade", api.upgrade);

  const managers: Http2SessionManager[] = [];
  t.after(async () => {
    stop.abort();
    for (const manager of managers) manager.abort();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    kubernetes.close();
    talos.close();
    await store.close();
    rmSync(consoleDirectory, { recursive: true });
  });
  const transport = (token?: string) => {
    const sessionManager = new Http2SessionManager(url, {}, { ca: ca.crt });
    managers.push(sessionManager);
    return createGrpcTransport({
      baseUrl: url,
      sessionManager,
      interceptors: [
        (next) => (call) => {
          if (token) call.header.set("authorization", `Bearer ${token}`);
          return next(call);
        },
      ],
    });
  };
  const tokenOf = async (role: Role) =>
    (await sessions.createToken(`${role.toLowerCase()}@example`, role, 3_600_000)).token;
  return {
    url,
    ca: ca.crt,
    port,
    state,
    sessions,
    clock,
    tokens,
    lines,
    tokenOf,
    transport,
    client: async (service, role) => createClient(service, transport(role && (await tokenOf(role)))),
    http: (path, options = {}, body) =>
      new Promise((resolve, reject) => {
        const call = request(url, { path, ca: ca.crt, agent: false, ...options }, (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
          );
        });
        call.on("error", reject);
        call.end(body);
      }),
  };
}

/** The code and the words that a call is refused with; `ok` when it is not. */
export async function outcome(
  call: Promise<unknown> | AsyncIterable<unknown>,
): Promise<{ code: string; message: string }> {
  try {
    if (Symbol.asyncIterator in call) {
      const iterator = call[Symbol.asyncIterator]();
      await iterator.next();
      await iterator.return?.();
    } else await call;
    return { code: "ok", message: "" };
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error));
    return { code: Code[error.code], message: error.rawMessage };
  }
}
