import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import type { Duplex } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { connect as tlsConnect } from "node:tls";
import { isIP } from "#emulator/apid/certificates.ts";
import type { KubeObject } from "#emulator/kubeapi/objects.ts";
import type { Pair } from "#emulator/pki.ts";
import { readsWhole } from "#lib/whole-answer.ts";

/** How to reach an API server, and as whom. */
export interface KubeAccess {
  /** What the server's certificate must name. */
  readonly host: string;
  /** PEM of the authority that the server's certificate must chain to. */
  readonly ca: string;
  readonly identity: Pair;
  readonly dial: (signal: AbortSignal) => Promise<Duplex>;
}

/** One answer. */
export interface KubeAnswer {
  readonly status: number;
  readonly body: unknown;
}

const patience = 15_000;

/** A client of a real Kubernetes API: one HTTP/2 connection, made again when it breaks. */
export class KubeClient {
  readonly #access: KubeAccess;
  #session: Promise<ClientHttp2Session> | undefined;
  #current: ClientHttp2Session | undefined;

  constructor(access: KubeAccess) {
    this.#access = access;
  }

  /** Sends a request; an answer of any status is an answer. Throws when there is none. */
  async request(
    signal: AbortSignal,
    method: string,
    path: string,
    body?: object,
    type = "application/json",
  ): Promise<KubeAnswer> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(patience)]);
    // A connection that does not answer is given up: the next request opens another.
    const giveUp = () => !signal.aborted && this.close();
    limit.addEventListener("abort", giveUp, { once: true });
    try {
      return await this.#exchange(limit, { ":method": method, ":path": path, "content-type": type }, body);
    } finally {
      limit.removeEventListener("abort", giveUp);
    }
  }

  async #exchange(signal: AbortSignal, headers: Record<string, string>, body?: object): Promise<KubeAnswer> {
    const stream = await this.#open(signal, headers, body);
    const head = await headOf(stream);
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const json = String(head["content-type"] ?? "").includes("json");
    return { status: Number(head[":status"]), body: json ? JSON.parse(text) : text };
  }

  /** The same, for what must succeed: throws the server's message otherwise, except for statuses in `also`. */
  async need(
    signal: AbortSignal,
    method: string,
    path: string,
    body?: object,
    { type, also = [] }: { readonly type?: string; readonly also?: readonly number[] } = {},
  ): Promise<KubeAnswer> {
    const answer = await this.request(signal, method, path, body, type);
    if (answer.status < 300 || also.includes(answer.status)) return answer;
    const { message } = (answer.body ?? {}) as { message?: unknown };
    throw new Error(`the API server answered ${answer.status}${typeof message === "string" ? `: ${message}` : ""}`);
  }

  /** Events of a watch until it ends. */
  async *watch(signal: AbortSignal, path: string): AsyncGenerator<{ type: string; object: KubeObject }> {
    const stream = await this.#open(signal, { ":method": "GET", ":path": path });
    const decoder = new StringDecoder("utf8");
    let rest = "";
    for await (const chunk of stream) {
      const lines = (rest + decoder.write(chunk as Buffer)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") yield JSON.parse(line) as { type: string; object: KubeObject };
    }
  }

  close(): void {
    this.#session?.then(
      (session) => session.destroy(),
      () => {},
    );
    this.#session = undefined;
  }

  async #open(signal: AbortSignal, headers: Record<string, string>, body?: object): Promise<ClientHttp2Stream> {
    this.#session ??= this.#connect(signal);
    const opening = this.#session;
    let session: ClientHttp2Session;
    try {
      session = await opening;
    } catch (error) {
      if (this.#session === opening) this.#session = undefined;
      throw error;
    }
    const all = { accept: "application/json", ...headers };
    const stream = readsWhole(session.request(all, { signal, endStream: body === undefined }));
    // Whoever reads it hears of its error; nobody else must.
    stream.on("error", () => {});
    if (body !== undefined) stream.end(JSON.stringify(body));
    return stream;
  }

  async #connect(signal: AbortSignal): Promise<ClientHttp2Session> {
    const { host, ca, identity, dial } = this.#access;
    const raw = await dial(signal);
    raw.on("error", () => {});
    const socket = tlsConnect({
      socket: raw,
      host,
      ca: [ca],
      cert: identity.crt,
      key: identity.key,
      ALPNProtocols: ["h2"],
      ...(isIP(host) ? {} : { servername: host }),
    });
    socket.once("close", () => raw.destroy());
    socket.on("error", () => {});
    const closed = new AbortController();
    socket.once("close", () => closed.abort(new Error("connection closed")));
    try {
      await once(socket, "secureConnect", { signal: AbortSignal.any([signal, closed.signal]) });
    } catch (error) {
      socket.destroy();
      throw error;
    }
    const session = connectHttp2("https://kubernetes", { createConnection: () => socket });
    session.on("error", () => {});
    // The next request opens another; what this one still carries goes on to its end.
    const forget = () => {
      if (this.#current === session) this.#session = undefined;
    };
    this.#current = session;
    session.once("close", forget).once("goaway", forget);
    return session;
  }
}

/** The head of an answer. Throws what the stream fails with, and for one that closed without an answer. */
function headOf(stream: ClientHttp2Stream): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    stream.once("response", resolve);
    stream.once("error", reject);
    stream.once("close", () => reject(new Error("the connection ended before the answer")));
  });
}
