// Whatever is sent to the built-in Kubernetes API is stored or refused, and nobody else notices.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { type Emulator, startEmulator } from "#emulator/emulate.ts";
import { raise } from "#emulator/testing/cluster.ts";
import { TestPlane } from "#emulator/testing/plane.ts";
import { systemClock } from "#lib/clock.ts";
import { readsWhole } from "#lib/whole-answer.ts";
import { issue } from "#talos/pki.ts";
import { openTls } from "#talos/session.ts";

let plane: TestPlane;
let emulator: Emulator;
let session: ClientHttp2Session;
/** A caller with nothing but what bindings may give it. */
let nobody: ClientHttp2Session;

before(async () => {
  plane = await TestPlane.start();
  emulator = await startEmulator({ apiUrl: plane.url(), delays: "none" });
  await raise(plane, emulator.machines, { schedulable: true });
  session = await open("admin", ["system:masters"]);
  nobody = await open("nobody", []);
});
after(async () => {
  session?.destroy();
  nobody?.destroy();
  await emulator?.stop();
  plane?.stop();
});

async function open(commonName: string, organizations: string[]): Promise<ClientHttp2Session> {
  const { kubernetes } = plane.secrets;
  const own = await issue(kubernetes, { usage: "client", ttl: 3_600_000, commonName, organizations }, systemClock);
  const socket = await openTls({
    dial: (address, port, signal) => plane.dial(address, port, signal),
    address: plane.addressOf(emulator.machines[0]?.uuid ?? ""),
    port: 6443,
    credentials: { mode: "mtls", ca: kubernetes.crt, cert: own.crt, key: own.key },
  });
  return connect("https://kubernetes", { createConnection: () => socket });
}

async function send(method: string, path: string, body?: unknown, type = "application/json", through = session) {
  const stream = readsWhole(
    through.request({ ":method": method, ":path": path, "content-type": type }, { endStream: body === undefined }),
  );
  if (body !== undefined) stream.end(typeof body === "string" ? body : JSON.stringify(body));
  const [head] = (await once(stream as NodeJS.EventEmitter, "response")) as [Record<string, unknown>];
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return {
    status: Number(head[":status"]),
    body: JSON.parse(Buffer.concat(chunks).toString()) as { message?: string; items?: unknown[] },
  };
}

/** All that others do still works. */
async function stillServes(): Promise<void> {
  const nodes = await send("GET", "/api/v1/nodes");
  assert.equal(nodes.status, 200, String(nodes.body.message));
  assert.equal(nodes.body.items?.length, 1);
  assert.equal((await send("GET", "/apis")).status, 200);
  assert.equal((await send("GET", "/api/v1/nodes", undefined, "", nobody)).status, 403);
  const name = `probe-${Math.random().toString(36).slice(2)}`;
  assert.equal((await send("POST", "/api/v1/namespaces/default/configmaps", { metadata: { name } })).status, 201);
  assert.equal((await send("DELETE", `/api/v1/namespaces/default/configmaps/${name}`)).status, 200);
}

const json = fc.jsonValue({ maxDepth: 2 });
const odd = fc.oneof(json, fc.constantFrom<unknown>([null], [{}], { toString: 1 }, [{ uid: null }], 5, "x", null));
const metadata = fc.oneof(
  odd,
  fc.record(
    {
      name: fc.oneof(fc.constant("odd"), odd),
      generateName: odd,
      namespace: fc.oneof(fc.constant("default"), odd),
      labels: odd,
      annotations: odd,
      finalizers: odd,
      ownerReferences: odd,
      managedFields: odd,
      resourceVersion: odd,
      deletionTimestamp: odd,
    },
    { requiredKeys: ["name"] },
  ),
);
const resources: Record<string, readonly string[]> = {
  "/api/v1/namespaces/default/configmaps": ["data"],
  "/api/v1/namespaces/default/pods": ["spec", "status"],
  "/api/v1/namespaces/default/secrets": ["data", "stringData", "type"],
  "/api/v1/namespaces/default/services": ["spec"],
  "/api/v1/namespaces": ["spec"],
  "/apis/apps/v1/namespaces/default/deployments": ["spec"],
  "/apis/apps/v1/namespaces/default/daemonsets": ["spec"],
  "/apis/batch/v1/namespaces/default/jobs": ["spec"],
  "/apis/rbac.authorization.k8s.io/v1/clusterroles": ["rules"],
  "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": ["subjects", "roleRef"],
  "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": ["spec"],
  "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": ["spec"],
};
const fields = fc.oneof(
  odd,
  fc.record({
    template: odd,
    selector: odd,
    replicas: odd,
    containers: odd,
    group: fc.constant("x.io"),
    names: fc.oneof(
      odd,
      fc.record({
        plural: fc.constantFrom<unknown>("odds", 5),
        kind: fc.constantFrom<unknown>("Odd", 5),
        shortNames: odd,
        categories: odd,
      }),
    ),
    versions: fc.oneof(
      odd,
      fc.array(
        fc.record({ name: fc.constantFrom<unknown>("v1", 5, null), subresources: odd, additionalPrinterColumns: odd }),
      ),
    ),
    resourceAttributes: odd,
    nodeName: odd,
    tolerations: odd,
    nodeSelector: odd,
    taints: odd,
  }),
);
const path = fc.constantFrom(...Object.keys(resources));

test("odd objects are created, changed, shown and deleted without an internal error", { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      path,
      metadata,
      fc.array(fields, { minLength: 3, maxLength: 3 }),
      metadata,
      async (where, meta, values, change) => {
        const body = {
          metadata: meta,
          ...Object.fromEntries((resources[where] ?? []).map((name, at) => [name, values[at]])),
        };
        const answers = [
          await send("POST", where, body),
          await send("PATCH", `${where}/odd`, { metadata: change }, "application/merge-patch+json"),
          await send("PATCH", `${where}/odd`, body, "application/strategic-merge-patch+json"),
          await send("PATCH", `${where}/odd?fieldManager=x&force=true`, body, "application/apply-patch+yaml"),
          await send(
            "PATCH",
            `${where}/odd`,
            [{ op: "replace", path: "/metadata", value: change }],
            "application/json-patch+json",
          ),
          await send("PUT", `${where}/odd`, body),
          await send("GET", `${where}?labelSelector=a&fieldSelector=spec.x=1`),
          await send("DELETE", `${where}/odd`),
        ];
        for (const { status, body: said } of answers) assert.ok(status < 500, `${status} ${said.message}`);
        await stillServes();
      },
    ),
    { numRuns: 30 },
  );
});

test("requests that make no sense are refused", async () => {
  for (const [method, where, body, type, status] of [
    ["GET", "//", undefined, "", 404],
    ["GET", "/api/v1/nodes/%", undefined, "", 404],
    ["GET", "/api/v1/nothing", undefined, "", 404],
    ["TRACE", "/api/v1/nodes", undefined, "", 405],
    ["POST", "/api/v1/namespaces/default/configmaps", "{", "application/json", 400],
    ["POST", "/api/v1/namespaces/default/configmaps", [], "application/json", 400],
    [
      "POST",
      "/api/v1/namespaces/default/configmaps",
      { kind: "Pod", metadata: { name: "x" } },
      "application/json",
      400,
    ],
    ["POST", "/api/v1/namespaces/default/configmaps", { metadata: { name: "../x" } }, "application/json", 422],
    [
      "POST",
      "/api/v1/namespaces/default/configmaps",
      { metadata: { name: "x", ownerReferences: [null] } },
      "application/json",
      422,
    ],
    ["PATCH", "/api/v1/nodes/x", {}, "text/plain", 415],
    ["GET", "/api/v1/nodes?labelSelector=((", undefined, "", 400],
    ["GET", "/api/v1/nodes?watch=1&resourceVersion=x", undefined, "", 400],
  ] as const) {
    const answer = await send(method, where, body, type);
    assert.equal(answer.status, status, `${method} ${where}: ${answer.body.message}`);
    assert.ok(answer.body.message);
  }
});
