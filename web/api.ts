import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { State } from "#gen/cosi/resource/resource_pb.ts";
import { SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { ManagementService } from "#gen/management/management_pb.ts";

// The session is a cookie that scripts cannot read; the same origin serves page and API.
const transport = createGrpcWebTransport({ baseUrl: location.origin });

/** The resources of the plane. */
export const state = createClient(State, transport);
/** What is not a resource: join arguments, logs. */
export const management = createClient(ManagementService, transport);
/** Signing in and out. */
export const session = createClient(SessionService, transport);

/** Whether a call failed since nobody answered: it may be made again. */
export function unanswered(failure: unknown): boolean {
  const { code, cause } = ConnectError.from(failure);
  return cause instanceof TypeError || code === Code.Unavailable;
}

/** A failed call in words for a person. A browser says only "Failed to fetch" of a plane that is down. */
export function inWords(failure: unknown): string {
  const { rawMessage, cause } = ConnectError.from(failure);
  return cause instanceof TypeError ? "The plane does not answer" : rawMessage;
}
