import "reflect-metadata";
import assert from "node:assert/strict";
import { webcrypto, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, createServer, type Server } from "node:net";
import { type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as x509 from "@peculiar/x509";
import fc from "fast-check";
import { SecurityService } from "#gen/securityapi/securityapi_pb.ts";
import { systemClock } from "#lib/clock.ts";
import { silent } from "#lib/log.ts";
import type { SecretsBundle } from "#talos/secrets.ts";
import { asDuplex, closed, listening, makeSite, portOf } from "./fixtures.test.ts";
import { startTrustd } from "./trustd.ts";

const plane = "127.0.0.1";
const worker = "fdae:41e4:649b:9303::a";
const neighbour = "fdae:41e4:649b:9303::b";
const free = "fdae:41e4:649b:9303::c";

interface Wanted {
  readonly subject?: string;
  readonly ips?: string[];
  readonly names?: string[];
}

async function makeRequest({ subject = "CN=worker-1", ips = [], names = [] }: Wanted = {}): Promise<string> {
  const keys = await webcrypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const items = [
    ...ips.map((value) => ({ type: "ip" as const, value })),
    ...names.map((value) => ({ type: "dns" as const, value })),
  ];
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: subject,
    keys: keys as webcrypto.CryptoKeyPair,
    signingAlgorithm: { name: "Ed25519" },
    extensions: items.length > 0 ? [new x509.SubjectAlternativeNameExtension(items)] : [],
  });
  return request.toString("pem");
}

/** trustd on a loopback port; every connection seems to come from `from`. */
async function start(t: TestContext, from: { address: string }) {
  const site = makeSite(t);
  const one = await site.addCluster("one");
  const two = await site.addCluster("two");
  await site.addMachine("w", { cluster: "one", managementAddress: worker });
  await site.addMachine("n", { cluster: "two", managementAddress: neighbour });
  await site.addMachine("f", { cluster: "", managementAddress: free });
  let server: Server | undefined;
  const trustd = await startTrustd({
    ...site,
    clock: systemClock,
    log: silent,
    address: plane,
    async listen(port, onConnection) {
      assert.equal(port, 50_001);
      server = await listening(
        t,
        createServer((socket) => onConnection({ stream: asDuplex(socket), remoteAddress: from.address })),
      );
      return { close: async () => void server?.close() };
    },
  });
  t.after(() => trustd.close());
  const ask = async (secrets: SecretsBundle, csr: string | Uint8Array, token = secrets.trustdToken) => {
    const session = connectHttp2("https://127.0.0.1", {
      createConnection: () =>
        connectTls({
          port: portOf(server!),
          host: plane,
          ca: secrets.os.crt,
          minVersion: "TLSv1.3",
          ALPNProtocols: ["h2"],
        }),
    });
    session.on("error", () => {});
    try {
      const transport = createGrpcTransport({
        baseUrl: "https://127.0.0.1",
        defaultTimeoutMs: 5000,
        sessionManager: {
          authority: "https://127.0.0.1",
          request: async (method, path, headers, options) =>
            session.request({ ...headers, ":method": method, ":path": path }, options),
          notifyResponseByteRead() {},
        },
      });
      const request = { csr: typeof csr === "string" ? Buffer.from(csr) : csr };
      return await createClient(SecurityService, transport).certificate(request, { headers: { token } });
    } finally {
      session.destroy();
    }
  };
  return { site, one, two, ask, port: portOf(server!) };
}

test("a worker gets a server certificate of its own cluster", async (t) => {
  const { one, ask } = await start(t, { address: worker });
  const csr = await makeRequest({ ips: [worker, "192.0.2.7"], names: ["worker-1"] });
  const { ca, crt } = await ask(one, csr);
  assert.equal(Buffer.from(ca).toString(), one.os.crt);
  const certificate = new X509Certificate(crt);
  assert.ok(certificate.verify(new X509Certificate(one.os.crt).publicKey));
  assert.ok(certificate.checkIP("192.0.2.7"));
  assert.ok(certificate.checkHost("worker-1"));
  assert.deepEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
  assert.equal(certificate.ca, false);
  assert.equal(Math.round((certificate.validToDate.getTime() - Date.now()) / 3_600_000), 24);
});

test("the cluster is told by the source address: a member of another one does not even trust the server", async (t) => {
  const from = { address: neighbour };
  const { one, two, ask } = await start(t, from);
  await assert.rejects(ask(one, await makeRequest()));
  const { ca } = await ask(two, await makeRequest());
  assert.equal(Buffer.from(ca).toString(), two.os.crt);
  from.address = free;
  await assert.rejects(ask(one, await makeRequest()));
});

test("what is not allowed is refused with its reason", async (t) => {
  const { one, two, ask } = await start(t, { address: worker });
  const refused = async (answer: Promise<unknown>, code: Code, message: RegExp) => {
    await assert.rejects(answer, (error) => {
      assert.ok(error instanceof ConnectError);
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      return true;
    });
  };
  await refused(ask(one, await makeRequest(), two.trustdToken.replace("c", "x")), Code.Unauthenticated, /token/);
  await refused(ask(one, await makeRequest(), ""), Code.Unauthenticated, /token/);
  await refused(ask(one, await makeRequest({ subject: "O=os:admin" })), Code.PermissionDenied, /organization/);
  await refused(ask(one, await makeRequest({ ips: [neighbour] })), Code.PermissionDenied, /another machine/);
  await refused(ask(one, await makeRequest({ ips: [plane] })), Code.PermissionDenied, /another machine/);
  await refused(ask(one, "x".repeat(100_000)), Code.ResourceExhausted, /./);
});

test("any bytes for a request give a clear error, or what was signed", async (t) => {
  const { one, ask } = await start(t, { address: worker });
  const valid = Buffer.from(new x509.Pkcs10CertificateRequest(await makeRequest({ ips: [worker] })).rawData);
  const broken = fc
    .record({ at: fc.nat(valid.length - 1), byte: fc.nat(255), cut: fc.nat(valid.length) })
    .map(({ at, byte, cut }) => {
      const bytes = Buffer.from(valid);
      bytes[at]! ^= byte || 1;
      return bytes.subarray(0, cut % 3 === 0 ? cut : valid.length);
    });
  const pem = (der: Uint8Array) =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(der).toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
  const anything = fc.oneof(broken.map(pem), fc.uint8Array().map(pem), fc.string());
  await fc.assert(
    fc.asyncProperty(anything, async (csr) => {
      const answer = await ask(one, csr).catch((error: unknown) => error);
      if (answer instanceof Error) {
        assert.ok(answer instanceof ConnectError);
        assert.ok(
          [Code.InvalidArgument, Code.PermissionDenied].includes(answer.code),
          `${answer.code} ${answer.message}`,
        );
        return;
      }
      // A change outside of what is signed may be read over; then it must have changed nothing.
      const certificate = new X509Certificate((answer as { crt: Uint8Array }).crt);
      assert.equal(certificate.subject, "CN=worker-1");
      assert.deepEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
      assert.ok(certificate.checkIP(worker));
    }),
    { numRuns: 150 },
  );
});

test("connections that do not speak TLS or h2 end, and no machine has more than eight", async (t) => {
  const { port, one } = await start(t, { address: worker });
  const plain = connectTcp(port, plane).on("error", () => {});
  plain.write("GET / HTTP/1.1\r\n\r\n");
  await closed(plain);
  const http1 = connectTls({ port, host: plane, ca: one.os.crt, ALPNProtocols: ["http/1.1"] });
  await once(http1, "error");
  const silent = Array.from({ length: 8 }, () => connectTcp(port, plane).on("error", () => {}));
  await Promise.all(silent.map((socket) => once(socket, "connect")));
  const ninth = connectTcp(port, plane).on("error", () => {});
  ninth.resume();
  await closed(ninth);
  for (const socket of silent) socket.destroy();
});
