import type { ConnectRouter } from "@connectrpc/connect";
import { compressionGzip, connectNodeAdapter } from "@connectrpc/connect-node";
import type { Registry } from "prom-client";
import { State as StateService } from "#gen/cosi/resource/resource_pb.ts";
import { PlaneService, SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { ManagementService } from "#gen/management/management_pb.ts";
import { atLeast } from "#guard/caller.ts";
import type { Sessions } from "#guard/sessions.ts";
import { kindOf } from "#kinds/all.ts";
import { IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Store } from "#store/store.ts";
import { authenticationInterceptor } from "./authentication.ts";
import { Console } from "./console.ts";
import { Edge, type EdgeOptions } from "./edge.ts";
import { errorInterceptor } from "./errors.ts";
import { type ManagementOptions, managementService } from "./management-service.ts";
import { type PlaneFacts, planeService } from "./plane-service.ts";
import { sessionService } from "./session-service.ts";
import { stateService } from "./state-service.ts";
import { validate } from "./validation.ts";

/** Largest message either way (protocols.md 0.3). */
const largest = 32 * 1024 * 1024;

/** What the API is made with. */
export interface ApiOptions extends ManagementOptions {
  readonly store: Store;
  readonly log: Logger;
  readonly sessions: Sessions;
  readonly facts: PlaneFacts;
  readonly metrics: Registry;
  /** The built console. */
  readonly consoleDirectory: string;
  readonly kubernetes: EdgeOptions["kubernetes"];
  readonly talos: EdgeOptions["talos"];
}

/** All that the plane's one port serves. */
export function createApi(options: ApiOptions): Edge {
  const { store, log, sessions, facts, metrics, consoleDirectory, kubernetes, talos } = options;
  const paths = new Set<string>();
  const routes = (router: ConnectRouter) => {
    router.service(StateService, stateService(store, { log, kindOf, validate }));
    router.service(ManagementService, managementService(options));
    router.service(SessionService, sessionService(sessions, options.url));
    router.service(PlaneService, planeService(facts));
    for (const handler of router.handlers) paths.add(handler.requestPath);
  };
  const rpc = connectNodeAdapter({
    routes,
    interceptors: [errorInterceptor(log), authenticationInterceptor(sessions)],
    readMaxBytes: largest,
    writeMaxBytes: largest,
    acceptCompression: [compressionGzip],
  });
  return new Edge({
    log,
    console: new Console(consoleDirectory),
    rpc,
    rpcPaths: paths,
    kubernetes,
    talos,
    async metrics(authorization) {
      const caller = await sessions.authenticate((name) => (name === "authorization" ? authorization : undefined));
      if (!caller || !atLeast(caller.role, "Reader"))
        throw new IchorError("unauthenticated", "metrics need a token of the role Reader");
      return metrics.metrics();
    },
  });
}
