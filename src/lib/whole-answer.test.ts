import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { readsWhole } from "./whole-answer.ts";

const server = createServer();
let session: ClientHttp2Session;
let answer: (stream: ServerHttp2Stream) => void;
server.on("stream", (opened) => {
  const stream = opened as ServerHttp2Stream;
  stream.on("error", () => {});
  answer(stream);
});

before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
after(() => {
  session.destroy();
  server.close();
});

const textOf = async (chunks: AsyncIterable<Buffer>) => {
  let text = "";
  for await (const chunk of chunks) text += chunk;
  return text;
};

test("an answer that came whole before it was read is read whole", async () => {
  answer = (stream) => {
    stream.respond({}, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ done: "yes" }));
    stream.end("all of it");
  };
  const stream = readsWhole(session.request());
  await once(stream, "trailers");
  // Both sides have closed it now: what Node's own iteration takes for a cut.
  while (!stream.closed) await new Promise(setImmediate);
  assert.equal(await textOf(stream), "all of it");
});

test("an answer that comes in pieces is read as it comes", async () => {
  answer = (stream) => {
    stream.respond();
    stream.write("one ");
    setImmediate(() => stream.end("two"));
  };
  assert.equal(await textOf(readsWhole(session.request())), "one two");
});

test("an answer that is cut off fails", async () => {
  answer = (stream) => {
    stream.respond();
    stream.write("half");
    setImmediate(() => stream.session?.destroy());
  };
  const own = connect(session.originSet?.[0] ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  own.on("error", () => {});
  await assert.rejects(textOf(readsWhole(own.request())));
  own.destroy();
});

test("a reader that leaves early ends the stream", async () => {
  let ended: Promise<unknown> | undefined;
  answer = (stream) => {
    ended = once(stream, "close");
    stream.respond();
    stream.write("first");
  };
  for await (const chunk of readsWhole(session.request())) {
    assert.equal(String(chunk), "first");
    break;
  }
  await ended;
});
