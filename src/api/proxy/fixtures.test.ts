import assert from "node:assert/strict";
import { type AddressInfo, connect, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { type TestContext, test } from "node:test";
import { type MachineStatusSpec, MachineStatusSpec_Role } from "#gen/specs/specs_pb.ts";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { silent } from "#lib/log.ts";
import { MemoryStore } from "#store/memory.ts";
import { State } from "#store/state.ts";
import type { Dial } from "#talos/dial.ts";
import { makeCA } from "#talos/pki.ts";
import { decodeSecrets, encodeSecrets, type SecretsBundle } from "#talos/secrets.ts";
import { MachineIndex } from "./machine-index.ts";

/** What the tests of this folder share: a store with clusters and machines, and a network of loopback sockets. */
export interface Site {
  readonly state: State;
  readonly machines: MachineIndex;
  readonly signal: AbortSignal;
  readonly dial: Dial;
  /** Lets a port of a SideroLink address lead to a listening server; undefined takes it away. */
  route(address: string, port: number, server: Server | undefined): void;
  addCluster(name: string): Promise<SecretsBundle>;
  addMachine(id: string, spec: Partial<Omit<MachineStatusSpec, "$typeName" | "$unknown">>): Promise<void>;
}

const ca = makeCA("ed25519", "talos", systemClock);

/** New for each test; ends with it. */
export function makeSite(t: TestContext): Site {
  const stop = new AbortController();
  const state = new State(new MemoryStore({ clock: systemClock }));
  const machines = new MachineIndex({ state, clock: systemClock, log: silent, signal: stop.signal });
  const routes = new Map<string, number>();
  t.after(async () => {
    stop.abort();
    await state.store.close();
  });
  return {
    state,
    machines,
    signal: stop.signal,
    dial: (address, port, signal) =>
      new Promise((resolve, reject) => {
        const to = routes.get(`${address} ${port}`);
        if (to === undefined) return reject(new IchorError("unavailable", `${address} does not answer`));
        const socket = connect({ port: to, host: "127.0.0.1", allowHalfOpen: true });
        const stop = () => socket.destroy(signal?.reason);
        signal?.addEventListener("abort", stop, { once: true });
        socket.once("connect", () => {
          signal?.removeEventListener("abort", stop);
          socket.off("error", reject);
          resolve(asDuplex(socket));
        });
        socket.once("error", reject);
      }),
    route(address, port, server) {
      if (server) routes.set(`${address} ${port}`, (server.address() as AddressInfo).port);
      else routes.delete(`${address} ${port}`);
    },
    async addCluster(name) {
      const bundle: SecretsBundle = {
        clusterId: "id",
        clusterSecret: "secret",
        bootstrapToken: "aaaaaa.bbbbbbbbbbbbbbbb",
        secretboxEncryptionSecret: "box",
        trustdToken: "cccccc.dddddddddddddddd",
        etcd: await ca,
        kubernetes: await makeCA("p256", "kubernetes", systemClock),
        aggregator: await ca,
        serviceAccountKey: "none",
        os: await makeCA("ed25519", "talos", systemClock),
      };
      await state.create(ClusterSecretsKind, name, { data: encodeSecrets(bundle) });
      return bundle;
    },
    async addMachine(id, spec) {
      await state.modify(MachineStatusKind, id, (draft) => {
        Object.assign(draft.spec, { connected: true, role: MachineStatusSpec_Role.CONTROL_PLANE }, spec);
      });
      await machines.ready();
    },
  };
}

/** A socket as the link hands it out: a plain Duplex without a handle. */
export function asDuplex(socket: Socket): Duplex {
  socket.setNoDelay(true);
  const stream = new Duplex({
    read: () => void socket.resume(),
    write: (chunk, _, done) => void socket.write(chunk, done),
    final: (done) => void socket.end(done),
    destroy(error, done) {
      if (error || !socket.readableEnded) socket.resetAndDestroy();
      else socket.destroy();
      done(error);
    },
  });
  socket.on("data", (chunk) => {
    if (!stream.push(chunk)) socket.pause();
  });
  socket.once("end", () => stream.push(null));
  socket.on("error", (error) => stream.destroy(error));
  socket.once("close", () => {
    if (!socket.readableEnded) stream.destroy();
  });
  return stream;
}

/** Listens on a loopback port until the test ends. */
export async function listening<S extends Server>(t: TestContext, server: S): Promise<S> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    (server as { closeAllConnections?: () => void }).closeAllConnections?.();
  });
  return server;
}

/** Resolves when a connection is closed, however it ended. */
export function closed(stream: Duplex): Promise<void> {
  stream.on("error", () => {});
  return new Promise((resolve) => stream.once("close", resolve));
}

/** Waits until `check` holds, looking again with each turn of the loop; fails after ten seconds. */
export async function eventually(check: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await check())) {
    assert.ok(performance.now() < end, `never came true: ${what}`);
    await new Promise((next) => setImmediate(next));
  }
}

export const portOf = (server: Server) => (server.address() as AddressInfo).port;

test("the fixture's secrets are read back", async (t) => {
  const site = makeSite(t);
  const { os } = await site.addCluster("one");
  const stored = await site.state.require(ClusterSecretsKind, "one");
  assert.equal(decodeSecrets(stored.spec.data).os.crt, os.crt);
});
