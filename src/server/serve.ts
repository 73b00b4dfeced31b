import { createSecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { collectDefaultMetrics, Registry } from "prom-client";
import { createApi } from "#api/api.ts";
import { KubernetesTokens } from "#api/kubernetes-token.ts";
import { createKubernetesProxy } from "#api/proxy/kubernetes-proxy.ts";
import { startLoadBalancers } from "#api/proxy/load-balancer.ts";
import { MachineIndex } from "#api/proxy/machine-index.ts";
import { createTalosProxy } from "#api/proxy/talos-proxy.ts";
import { startTrustd } from "#api/proxy/trustd.ts";
import { controllers } from "#controllers/all.ts";
import { MachineClients } from "#controllers/machine-clients.ts";
import { publishVersions } from "#controllers/upgrade/versions.ts";
import { Engine } from "#engine/engine.ts";
import { toDot } from "#engine/graph.ts";
import { Sessions } from "#guard/sessions.ts";
import { kindOf } from "#kinds/all.ts";
import { systemClock } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import { version } from "#lib/version.ts";
import { planeAddress } from "#link/address.ts";
import { makeJoinToken } from "#link/join-token.ts";
import { KernelEngine } from "#link/kernel/engine.ts";
import { startLink } from "#link/service.ts";
import { eventsPort } from "#link/sinks/events.ts";
import { logsPort } from "#link/sinks/logs.ts";
import { UserEngine } from "#link/user/engine.ts";
import { createSeal } from "#store/seal.ts";
import { openSqliteStore } from "#store/sqlite.ts";
import { State } from "#store/state.ts";
import type { JoinTarget } from "#talos/kernelargs.ts";
import { advertised, advertisedUrl, type PlaneOptions, readConfig } from "./config.ts";
import { DataDirectory } from "./data-directory.ts";
import { keepCertificate, planeCA, wireguardKey } from "./keys.ts";
import { type LogSink, makeLogger } from "./logging.ts";
import { listenForMachines, open, stopServer } from "./machine-listener.ts";
import { publishControllers, publishPlane } from "./publish.ts";

/** A running plane. */
export interface RunningPlane {
  readonly url: string;
  /** Its data directory, absolute. */
  readonly data: string;
  close(): Promise<void>;
}

/** What `--link` chooses from. */
const linkEngines = { user: UserEngine, kernel: KernelEngine };
/** Life of the administrator's token on the plane's own machine; renewed at a start when half of it is over. */
const adminLife = 365 * 86_400_000;
const consoleDirectory = fileURLToPath(new URL("../../web/dist", import.meta.url));

/**
 * Starts a plane, or goes on with one. In order: what it kept, the link, the behaviour, the edges; a failure undoes what was started.
 * Throws an IchorError that says which flag or file to look at.
 */
export async function startPlane(
  options: PlaneOptions,
  logging: { readonly level: string } & LogSink,
): Promise<RunningPlane> {
  const config = readConfig(options);
  const clock = systemClock;
  const log = makeLogger(logging.level, logging);
  const stop = new AbortController();
  const started: (() => unknown)[] = [];
  const close = async () => {
    // Whoever waits or watches stops before what it watches is closed.
    stop.abort(new IchorError("aborted", "the plane is stopping"));
    for (const end of started.splice(0).reverse()) await end();
  };
  const keep = <T>(part: T, end: (part: T) => unknown): T => {
    started.push(() => end(part));
    return part;
  };
  try {
    // What it kept.
    const data = keep(new DataDirectory(config.data), (directory) => directory.close());
    const store = keep(
      await openSqliteStore({
        path: data.file("ichor.db"),
        clock,
        log,
        seal: createSeal(data.masterKey()),
        isSealed: (type) => kindOf(type)?.sealed ?? false,
        hidesId: (type) => kindOf(type)?.secretId ?? false,
      }),
      (opened) => opened.close(),
    );
    const state = new State(store);
    const ca = await planeCA(state, clock);
    data.write("ca.crt", ca.crt);

    // The link.
    const privateKey = await wireguardKey(state);
    const engine = keep(
      await linkEngines[config.link].start({ privateKey, address: planeAddress, bind: config.wireguard, clock, log }),
      (link) => link.close(),
    );
    let at = { machineApi: "", wireguard: "" };
    const { signal } = stop;
    const link = keep(
      await startLink({
        state,
        engine,
        clock,
        log,
        directory: data.path,
        endpoints: () => at.wireguard.split(","),
        signal,
      }),
      (running) => running.close(),
    );
    const dial = engine.connect.bind(engine);
    const listen = engine.listen.bind(engine);
    const machines = new MachineIndex({ state, clock, log, signal });
    await machines.ready(signal);
    const inside = { listen, dial, state, machines, clock, log };
    keep(await startTrustd({ ...inside, address: planeAddress }), (running) => running.close());
    keep(await startLoadBalancers({ ...inside, signal }), (running) => running.close());

    // The behaviour.
    const joinTarget = (joinToken: string, tunnel: boolean): JoinTarget => ({
      apiUrl: at.machineApi,
      joinToken,
      tunnel,
      planeAddress,
      eventsPort,
      logsPort,
    });
    const metrics = new Registry();
    collectDefaultMetrics({ register: metrics });
    const clients = new MachineClients({ state, dial, clock });
    const { imageFactory, kubernetesRegistry } = config;
    const settings = { imageFactory, kubernetesRegistry, joinTarget };
    const all = controllers({ state, dial, clients, clock, log, settings });
    const behaviour = keep(new Engine({ store, controllers: all, clock, log, metrics }), (running) => running.stop());

    // The edges.
    const sessions = new Sessions({ state, clock, log });
    const tokens = new KubernetesTokens(state, clock);
    const verify = (token: string) => tokens.verify(token);
    const kubernetes = keep(createKubernetesProxy({ ...inside, verify }), (proxy) => proxy.close());
    const talos = keep(createTalosProxy(inside), (proxy) => proxy.close());
    const machineApi = keep(await listenForMachines(config.machineApi, link.routes), (listener) => listener.close());
    const server = createSecureServer({
      allowHTTP1: true,
      requestCert: true,
      rejectUnauthorized: false,
      ca: ca.crt,
      minVersion: "TLSv1.2",
    });
    await open(server, config.listen, "--listen");
    keep(server, stopServer);
    const url = advertisedUrl(config, (server.address() as AddressInfo).port);
    at = await advertised(config, url, { machineApi: machineApi.port, wireguard: engine.udp.port });
    const names = [url.hostname.replace(/^\[|\]$/g, ""), config.listen.host];
    keep(await keepCertificate(server, ca, names, clock), (renewal) => renewal.stop());
    const api = createApi({
      store,
      state,
      clock,
      log,
      sessions,
      logs: link.logs,
      ca,
      url: () => url,
      tokens,
      makeJoinToken,
      joinTarget,
      metrics,
      consoleDirectory,
      kubernetes,
      talos: talos.handle,
      facts: {
        version,
        started: clock.now(),
        graph: () => toDot(all),
        state,
      },
    });
    server.on("request", api.handle);
    server.on("upgrade", api.upgrade);

    // All is there: now it may work, and be found.
    await publishVersions(state);
    await publishPlane(state, version, { ...at, events: eventsPort, logs: logsPort });
    behaviour.start();
    started.push(publishControllers(behaviour, state, clock, log));
    const admin = await sessions.ensureToken(data.read("admin.token"), "admin", "Admin", adminLife);
    data.write("admin.token", `${admin}\n`);
    data.write("plane.json", `${JSON.stringify({ api: url.origin, ...at }, null, 2)}\n`);
    log.info({ url: url.origin, ...at }, "plane started");
    return { url: url.origin, data: data.path, close };
  } catch (error) {
    await close();
    throw error;
  }
}
