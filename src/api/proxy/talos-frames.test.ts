import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { DataSchema } from "#gen/common/common_pb.ts";
import { ServiceListResponseSchema, VersionResponseSchema } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { Budget, encodeFrame, readFrames } from "./grpc-frames.ts";
import { decodeMessage, encodeMessage } from "./grpc-status.ts";
import { errorReply, labelMessage, labelReply } from "./talos-frames.ts";

const metadata = fc.option(fc.record({ hostname: fc.string(), error: fc.string() }), { nil: undefined });
const node = fc.record({
  name: fc.string({ minLength: 1 }),
  entries: fc.array(
    fc.record({
      metadata,
      services: fc.array(fc.record({ id: fc.string(), state: fc.string({ maxLength: 300 }) }), { maxLength: 4 }),
    }),
    { minLength: 1, maxLength: 3 },
  ),
});

test("replies put together as bytes are what decoding, naming and composing gives", () => {
  fc.assert(
    fc.property(fc.array(node, { maxLength: 4 }), (nodes) => {
      const bytes = nodes.map(({ name, entries }) => {
        const messages = entries.map(({ metadata, ...rest }) => (metadata ? { metadata, ...rest } : rest));
        const reply = create(ServiceListResponseSchema, { messages });
        return labelReply(toBinary(ServiceListResponseSchema, reply), name);
      });
      const composed = fromBinary(ServiceListResponseSchema, Buffer.concat(bytes));
      const wanted = create(ServiceListResponseSchema, {
        messages: nodes.flatMap(({ name, entries }) =>
          entries.map(({ metadata, ...rest }) => ({ ...rest, metadata: { ...metadata, hostname: name } })),
        ),
      });
      assert.deepEqual(composed, wanted);
    }),
  );
});

test("messages of a stream keep all but their host name", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2000 }), metadata, fc.string({ minLength: 1 }), (bytes, metadata, name) => {
      const data = create(DataSchema, metadata ? { bytes, metadata } : { bytes });
      const labelled = fromBinary(DataSchema, Uint8Array.from(labelMessage(toBinary(DataSchema, data), name)));
      assert.deepEqual(labelled, create(DataSchema, { bytes, metadata: { ...metadata, hostname: name } }));
    }),
  );
});

test("any bytes are labelled or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        assert.ok(labelReply(bytes, "node").length > bytes.length);
      } catch (error) {
        assert.ok(error instanceof IchorError && error.code === "data_loss");
      }
    }),
    { numRuns: 3000 },
  );
  assert.throws(() =>
    labelReply(Uint8Array.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), "a"),
  );
});

test("a reply without entries still names its node; other fields stay", () => {
  const empty = fromBinary(VersionResponseSchema, labelReply(new Uint8Array(), "node"));
  assert.deepEqual(
    empty.messages.map((message) => message.metadata?.hostname),
    ["node"],
  );
  const other = Uint8Array.from([0x10, 7, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(labelReply(other, "n").subarray(0, other.length), Buffer.from(other));
});

test("a failed node is an entry with its error", () => {
  const status = { code: 14, message: "down" };
  const entry = fromBinary(VersionResponseSchema, errorReply("node", status, false)).messages[0];
  assert.equal(entry?.metadata?.hostname, "node");
  assert.equal(entry.metadata.error, "rpc error: code = Unavailable desc = down");
  assert.deepEqual([entry.metadata.status?.code, entry.metadata.status?.message], [14, "down"]);
  const item = fromBinary(DataSchema, errorReply("node", status, true));
  assert.equal(item.metadata?.status?.code, 14);
});

test("frames are found however the body is cut", async () => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(bodies, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), async (messages, cuts) => {
      const all = Buffer.concat(messages.map((message) => encodeFrame(message)));
      const chunks: Buffer[] = [];
      for (let at = 0, turn = 0; at < all.length; turn++) {
        const length = cuts[turn % cuts.length]!;
        chunks.push(all.subarray(at, at + length));
        at += length;
      }
      const budget = new Budget(10_000);
      const found: Buffer[] = [];
      for await (const { message, compressed } of readFrames(Readable.from(chunks), budget)) {
        assert.equal(compressed, false);
        found.push(Buffer.from(message));
      }
      assert.deepEqual(
        found,
        messages.map((message) => Buffer.from(message)),
      );
      budget.take(10_000);
    }),
  );
});

test("any body ends or is refused, and gives back what it held", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 })), async (chunks) => {
      const budget = new Budget(200);
      try {
        for await (const _ of readFrames(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), budget));
      } catch (error) {
        assert.ok(error instanceof IchorError && ["data_loss", "resource_exhausted"].includes(error.code));
      }
      budget.take(200);
    }),
  );
});

test("messages of statuses survive the wire", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      const encoded = encodeMessage(text);
      assert.match(encoded, /^[\x20-\x7e]*$/);
      assert.equal(decodeMessage(encoded), text);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => typeof decodeMessage(text) === "string"));
});
