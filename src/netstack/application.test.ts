import "reflect-metadata";
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { Duplex } from "node:stream";
import { after, test } from "node:test";
import tls from "node:tls";
import * as x509 from "@peculiar/x509";
import { systemClock } from "#lib/clock.ts";
import { Stack } from "./stack.ts";

/** Two stacks wired back to back, in real time: what applications see. */
const a: Stack = new Stack({
  address: "fd00::a",
  clock: systemClock,
  send: (packet) => setImmediate(() => b.input(packet)),
});
const b: Stack = new Stack({
  address: "fd00::b",
  clock: systemClock,
  send: (packet) => setImmediate(() => a.input(packet)),
});
after(() => {
  a.close();
  b.close();
});

async function certificate(): Promise<{ key: string; cert: string }> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=machine",
    keys,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: "dns", value: "machine" }])],
  });
  const key = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return { key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----`, cert: made.toString("pem") };
}

async function text(stream: AsyncIterable<unknown>): Promise<string> {
  let result = "";
  for await (const chunk of stream) result += chunk;
  return result;
}

test("TLS with certificates on both sides runs over a stream", async () => {
  const pair = await certificate();
  b.listen(443, (stream) => {
    const secure = new tls.TLSSocket(stream, { isServer: true, ...pair, requestCert: true, ca: pair.cert });
    secure.on("data", (chunk) => secure.end(`heard ${chunk}`));
  });
  const socket = await a.connect("fd00::b", 443);
  const secure = tls.connect({ socket, ...pair, ca: pair.cert, servername: "machine" });
  await once(secure, "secureConnect");
  assert.equal(secure.authorized, true);
  secure.write("hello");
  assert.equal(await text(secure), "heard hello");
});

test("a large TLS transfer arrives whole", async () => {
  const pair = await certificate();
  const server = tls.createServer(pair, (secure) => secure.pipe(secure));
  b.listen(444, (stream) => {
    // TLS may have more to say after the other side ended.
    stream.allowHalfOpen = true;
    server.emit("connection", stream);
  });
  const socket = await a.connect("fd00::b", 444);
  const secure = tls.connect({ socket, ca: pair.cert, servername: "machine" });
  const size = 3_000_000;
  let got = 0;
  secure.on("data", (chunk: Buffer) => {
    for (let i = 0; i < chunk.length; i += 997) assert.equal(chunk[i], ((got + i) >> 10) & 255);
    got += chunk.length;
  });
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = (i >> 10) & 255;
  secure.end(bytes);
  await once(secure, "end");
  assert.equal(got, size);
});

test("HTTP/1 with a kept connection runs over a stream", async () => {
  const server = http.createServer(async (request, response) => {
    response.end(`${request.method} ${request.url} ${await text(request)}`);
  });
  b.listen(80, (stream) => server.emit("connection", stream));
  const stream: Duplex = await a.connect("fd00::b", 80);
  const agent = new http.Agent({ keepAlive: true });
  agent.createConnection = () => stream;
  for (const word of ["one", "two"]) {
    const request = http.request({ agent, host: "machine", path: `/${word}`, method: "POST" });
    request.end("body");
    const [response] = await once(request, "response");
    assert.equal(await text(response), `POST /${word} body`);
  }
  agent.destroy();
  stream.destroy();
});

test("HTTP/2 streams as gRPC uses it run over a stream: both directions at once, trailers, cancel", async () => {
  const server = http2.createServer();
  const resets: number[] = [];
  server.on("stream", (call: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    call.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    call.on("wantTrailers", () => call.sendTrailers({ "grpc-status": "0" }));
    call.on("error", () => {});
    call.on("close", () => resets.push(call.rstCode));
    if (headers[":path"] === "/echo") call.pipe(call);
    else call.write("one");
  });
  b.listen(50_000, (stream) => server.emit("connection", stream));
  const stream = await a.connect("fd00::b", 50_000);
  const session = http2.connect("http://machine", { createConnection: () => stream });
  const calls = Array.from({ length: 20 }, async (_, i) => {
    const call = session.request({ ":method": "POST", ":path": "/echo" }, { endStream: false });
    const trailers = once(call, "trailers");
    const body = `call ${i} `.repeat(20_000);
    call.end(body);
    assert.equal(await text(call.setEncoding("utf8")), body);
    assert.equal((await trailers)[0]["grpc-status"], "0");
  });
  await Promise.all(calls);
  const endless = session.request({ ":method": "POST", ":path": "/watch" });
  await once(endless, "data");
  endless.close(http2.constants.NGHTTP2_CANCEL);
  await once(endless, "close");
  session.close();
  await once(session, "close");
  assert.equal(resets.length, 21);
  assert.ok(resets.includes(http2.constants.NGHTTP2_CANCEL));
});

test("HTTP/2 over TLS, negotiated, runs over a stream", async () => {
  const pair = await certificate();
  const server = http2.createSecureServer(pair, (request, response) => response.end(`saw ${request.url}`));
  b.listen(6443, (stream) => server.emit("connection", stream));
  const socket = await a.connect("fd00::b", 6443);
  const secure = tls.connect({ socket, ca: pair.cert, servername: "machine", ALPNProtocols: ["h2"] });
  const session = http2.connect("https://machine", { createConnection: () => secure });
  const call = session.request({ ":path": "/version" });
  assert.equal(await text(call.setEncoding("utf8")), "saw /version");
  session.destroy();
});
