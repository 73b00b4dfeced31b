import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { State } from "#gen/cosi/resource/resource_pb.ts";
import { PlaneService, SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { ManagementService } from "#gen/management/management_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { readsWhole } from "#lib/whole-answer.ts";
import { RemoteState } from "./remote-state.ts";

/** Where state lives when nothing else is said. */
export const defaultData = join(homedir(), ".local/share/ichor");

/** A running plane as its clients see it. */
export interface Plane {
  readonly url: string;
  readonly state: RemoteState;
  readonly management: Client<typeof ManagementService>;
  readonly session: Client<typeof SessionService>;
  readonly plane: Client<typeof PlaneService>;
  /** Ends the connection, so that the process can end. */
  close(): void;
}

class Session extends Http2SessionManager {
  override async request(...args: Parameters<Http2SessionManager["request"]>) {
    return readsWhole(await super.request(...args));
  }
}

/** What a plane leaves in its data directory for clients on the same machine. */
export interface PlaneFile {
  readonly api: string;
}

/** Finds the plane and the administrator's credential through the data directory. Throws `unavailable` with what to do. */
export function openPlane(data: string): Plane {
  const file = readPlaneFile(data);
  const ca = readFileSync(join(data, "ca.crt"), "utf8");
  const token = readFileSync(join(data, "admin.token"), "utf8").trim();
  const sessionManager = new Session(file.api, {}, { ca });
  const transport: Transport = createGrpcTransport({
    baseUrl: file.api,
    sessionManager,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return {
    url: file.api,
    state: new RemoteState(createClient(State, transport)),
    management: createClient(ManagementService, transport),
    session: createClient(SessionService, transport),
    plane: createClient(PlaneService, transport),
    close: () => sessionManager.abort(),
  };
}

/** Reads `plane.json`; throws `unavailable` when no plane ever ran there. */
export function readPlaneFile(data: string): PlaneFile {
  try {
    return JSON.parse(readFileSync(join(data, "plane.json"), "utf8"));
  } catch (cause) {
    throw new IchorError(
      "unavailable",
      `no plane has run with the data directory ${data}: start one with "ichor up", or name another with --data`,
      { cause },
    );
  }
}
