import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
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
  const ca = readLeft(data, "ca.crt");
  const token = readLeft(data, "admin.token").trim();
  const sessionManager = new Session(file.api, {}, { ca });
  const transport: Transport = createGrpcTransport({
    baseUrl: file.api,
    sessionManager,
    interceptors: [
      (next) => async (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        try {
          return await next(request);
        } catch (error) {
          throw isRefused(error) ? notRunning(file.api, data, error) : error;
        }
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

/** Nobody listens there: the plane was stopped. */
function isRefused(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.Unavailable && /ECONNREFUSED/.test(error.rawMessage);
}

function notRunning(api: string, data: string, cause: unknown): ConnectError {
  return new ConnectError(
    `the plane of ${data} does not run (nothing answers at ${api}): start it with "ichor up${data === defaultData ? "" : ` --data ${data}`}"`,
    Code.Unavailable,
    undefined,
    undefined,
    cause,
  );
}

/** Reads `plane.json`; throws `unavailable` when no plane ever ran there. */
export function readPlaneFile(data: string): PlaneFile {
  const text = readLeft(data, "plane.json");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new IchorError("unavailable", `${join(data, "plane.json")} is damaged: "ichor up" writes it again`, {
      cause,
    });
  }
}

/** A file that every plane leaves. */
function readLeft(data: string, name: string): string {
  try {
    return readFileSync(join(data, name), "utf8");
  } catch (cause) {
    const forbidden = (cause as NodeJS.ErrnoException).code === "EACCES";
    throw new IchorError(
      forbidden ? "permission_denied" : "unavailable",
      forbidden
        ? `${join(data, name)} belongs to another user: run this as the one that runs the plane`
        : `no plane has run with the data directory ${data}: start one with "ichor up", or name another with --data`,
      { cause },
    );
  }
}
