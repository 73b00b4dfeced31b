import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { WatchRequestSchema, WatchResponseSchema } from "#gen/cosi/resource/resource_pb.ts";
import { callWatch } from "./watch-call.ts";

const server = createServer();
let client: ClientHttp2Session;
let answer: (stream: ServerHttp2Stream) => void;
server.on("stream", (opened) => {
  const stream = opened as ServerHttp2Stream;
  stream.on("error", () => {});
  stream.resume();
  answer(stream);
});
const dial = () => {
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  session.on("error", () => {});
  return session;
};
before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  client = dial();
});
after(() => {
  client.destroy();
  server.close();
});

const request = create(WatchRequestSchema, { namespace: "runtime", type: "Things.talos.dev" });
const never = new AbortController().signal;
const watch = (take: (error: string) => void, signal = never, session = client) =>
  callWatch(
    {
      request: async (method, path, headers) => session.request({ ...headers, ":method": method, ":path": path }),
    },
    request,
    ({ event }) => take(event[0]?.error ?? ""),
    signal,
  );

const head = { ":status": 200, "content-type": "application/grpc" };
/** Answers bytes, cut as told, and then a status. */
const body = (chunks: readonly Uint8Array[], status = "0", message = "") => {
  answer = (stream) => {
    stream.respond(head, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status, "grpc-message": message }));
    for (const chunk of chunks) stream.write(chunk);
    stream.end();
  };
};
const framed = (text: string) => {
  const message = toBinary(WatchResponseSchema, create(WatchResponseSchema, { event: [{ error: text }] }));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
};
const refusal = (code: Code, words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ConnectError, String(error));
  assert.equal(Code[error.code], Code[code]);
  assert.match(error.rawMessage, words);
  return true;
};

test("messages arrive whole and in order, wherever the bytes are cut", async () => {
  const texts = fc.array(fc.string({ maxLength: 300 }), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(texts, fc.array(fc.nat(2000), { maxLength: 12 }), async (sent, cuts) => {
      const bytes = Buffer.concat(sent.map(framed));
      const places = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
      body(places.slice(1).map((end, index) => bytes.subarray(places[index], end)));
      const seen: string[] = [];
      await watch((text) => seen.push(text));
      assert.deepEqual(seen, sent);
    }),
    { numRuns: 100 },
  );
});

test("the machine's status is thrown, from trailers and from an answer that is nothing else", async () => {
  body([framed("first")], "7", "no%20such type");
  await assert.rejects(
    watch(() => {}),
    refusal(Code.PermissionDenied, /^no such type$/),
  );
  answer = (stream) => stream.respond({ ...head, "grpc-status": "14", "grpc-message": "going" }, { endStream: true });
  await assert.rejects(
    watch(() => {}),
    refusal(Code.Unavailable, /going/),
  );
  answer = (stream) => stream.respond({ ":status": 503 }, { endStream: true });
  await assert.rejects(
    watch(() => {}),
    refusal(Code.Unavailable, /503/),
  );
});

test("compressed, huge and foreign messages are refused, and no bytes bring it down", async () => {
  body([Buffer.from([1, 0, 0, 0, 0])]);
  await assert.rejects(
    watch(() => {}),
    refusal(Code.Internal, /compressed/),
  );
  body([Buffer.from([0, 255, 255, 255, 255])]);
  await assert.rejects(
    watch(() => {}),
    refusal(Code.ResourceExhausted, /4294967295 bytes/),
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      body([bytes]);
      await watch(() => {}).catch((error: unknown) => assert.ok(error instanceof Error));
    }),
    { numRuns: 200 },
  );
});

test("it ends with its signal, with what the reader throws, and with the connection", async () => {
  answer = (stream) => {
    stream.respond(head);
    stream.write(framed("one"));
  };
  const stop = new AbortController();
  const reason = new Error("enough");
  await assert.rejects(
    watch(() => stop.abort(reason), stop.signal),
    reason,
  );
  await assert.rejects(
    watch(() => {
      throw reason;
    }),
    reason,
  );
  await assert.rejects(
    watch(() => {}, AbortSignal.abort(reason)),
    reason,
  );
  const own = dial();
  await assert.rejects(
    watch(() => own.destroy(), never, own),
    refusal(Code.Unavailable, /./),
  );
});
