import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect as connectHttp2,
  type OutgoingHttpHeaders,
} from "node:http2";
import type { Duplex } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { GrpcTransportOptions } from "@connectrpc/connect-node";
import { IchorError, messageOf } from "#lib/errors.ts";
import { survivable } from "#lib/tls-over-stream.ts";
import { readsWhole } from "#lib/whole-answer.ts";
import type { Credentials, Dial } from "./dial.ts";
import { opensslKey } from "./pki.ts";

type SessionManager = NonNullable<GrpcTransportOptions["sessionManager"]>;

/** Largest message either way (protocols.md 0.3). */
export const largestMessage = 32 * 1024 * 1024;
/** apid's port. */
export const apidPort = 50_000;
/** A session without calls is let go after six minutes, as Omni does. */
const idleAfter = 360_000;
const handshakeTimeout = 15_000;

/** Where and how to reach apid. */
export interface SessionOptions {
  readonly dial: Dial;
  readonly address: string;
  readonly port?: number;
  readonly credentials: Credentials;
}

/**
 * One HTTP/2 session to a machine, opened at the first call, shared by all, opened anew when it broke. Throws `unavailable` when the
 * machine does not answer, `unauthenticated` when its certificate is not of its cluster.
 */
export class MachineSession implements SessionManager {
  readonly authority: string;
  readonly #options: SessionOptions;
  #session: Promise<ClientHttp2Session> | undefined;
  #streams = 0;
  readonly #stop = new AbortController();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.authority = `https://[${options.address}]:${options.port ?? apidPort}`;
  }

  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: Omit<ClientSessionRequestOptions, "signal">,
  ): Promise<ClientHttp2Stream> {
    this.#stop.signal.throwIfAborted();
    this.#session ??= this.#open();
    const session = await this.#session;
    // Node's own authority leaves the brackets of an IPv6 address out; strict servers refuse that.
    const authority = new URL(this.authority).host;
    const stream = session.request({ ...headers, ":authority": authority, ":method": method, ":path": path }, options);
    this.#streams++;
    stream.once("close", () => {
      this.#streams--;
    });
    return readsWhole(stream);
  }

  notifyResponseByteRead(): void {}

  close(): void {
    this.#stop.abort(new IchorError("unavailable", "the connection to the machine was closed"));
    this.#session?.then(
      (session) => session.destroy(),
      () => {},
    );
  }

  async #open(): Promise<ClientHttp2Session> {
    try {
      const socket = await openTls(this.#options, this.#stop.signal);
      const session = connectHttp2(this.authority, {
        createConnection: () => socket,
        settings: { initialWindowSize: 1 << 20 },
      });
      const forget = () => {
        if (this.#session === opened) this.#session = undefined;
      };
      const drop = () => {
        forget();
        session.destroy();
      };
      const opened = this.#session;
      // A server that goes away takes no new calls, but ends those that run.
      session.once("error", drop).once("close", drop).once("goaway", forget);
      session.setTimeout(idleAfter, () => {
        if (this.#streams === 0) drop();
      });
      return session;
    } catch (error) {
      this.#session = undefined;
      throw error;
    }
  }
}

/** TLS 1.3 to apid over whatever the dial gives. */
export async function openTls(
  { dial, address, port = apidPort, credentials }: SessionOptions,
  signal?: AbortSignal,
): Promise<TLSSocket> {
  const limit = AbortSignal.any([AbortSignal.timeout(handshakeTimeout), ...(signal ? [signal] : [])]);
  const stream = await dial(address, port, limit).catch((cause: unknown) => {
    if (cause instanceof IchorError) throw cause;
    throw new IchorError("unavailable", `cannot reach the Talos API of ${address}: it does not answer`, { cause });
  });
  return new Promise((resolve, reject) => {
    const socket = survivable(
      connectTls({
        socket: stream as Duplex,
        host: address,
        minVersion: "TLSv1.3",
        ALPNProtocols: ["h2"],
        ...(credentials.mode === "maintenance"
          ? { rejectUnauthorized: false }
          : { ca: credentials.ca, cert: credentials.cert, key: opensslKey(credentials.key) }),
      }),
    );
    // A stream of the link may be half open, and TLS takes that over: an end of the other side would then close nothing.
    socket.allowHalfOpen = false;
    const late = () =>
      fail(new Error(signal?.aborted ? "the connection was closed" : "no answer to the TLS handshake"));
    limit.addEventListener("abort", late, { once: true });
    const fail = (error: Error) => {
      limit.removeEventListener("abort", late);
      socket.destroy();
      stream.destroy();
      const untrusted = /certificate|self-signed|altname|IP: /i.test(error.message);
      const why = untrusted ? "its certificate is not of this cluster" : messageOf(error);
      reject(
        new IchorError(
          untrusted ? "unauthenticated" : "unavailable",
          `cannot reach the Talos API of ${address}: ${why}`,
          { cause: error },
        ),
      );
    };
    socket.once("error", fail);
    socket.once("secureConnect", () => {
      limit.removeEventListener("abort", late);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}
