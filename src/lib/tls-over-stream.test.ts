import assert from "node:assert/strict";
import { once } from "node:events";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { connect, createSecureContext, TLSSocket } from "node:tls";
import { survivable } from "./tls-over-stream.ts";

/** One end of a pipe. Its own end can be held up, as by a peer whose window is closed. */
class End extends Duplex {
  other: End | undefined;
  held = false;
  readonly ending = Promise.withResolvers<void>();
  override _read(): void {}
  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    this.other?.push(chunk);
    done();
  }
  override _final(done: () => void): void {
    this.ending.resolve();
    if (this.held) return;
    this.other?.push(null);
    done();
  }
}

/** A TLS client whose end is under way, and the writer that Node's own HTTP/2 calls. */
async function ending(guard: (socket: TLSSocket) => TLSSocket) {
  const [near, far] = [new End(), new End()];
  near.other = far;
  far.other = near;
  // A shared key spares the test a certificate.
  const ciphers = "PSK";
  const psk = Buffer.alloc(32, 7);
  const server = new TLSSocket(
    far as never,
    {
      isServer: true,
      secureContext: createSecureContext({ ciphers, maxVersion: "TLSv1.2" }),
      pskCallback: () => psk,
    } as never,
  );
  server.on("error", () => {}).resume();
  const client = guard(
    connect({
      socket: near as never,
      ciphers,
      maxVersion: "TLSv1.2",
      pskCallback: () => ({ psk, identity: "test" }),
      checkServerIdentity: () => undefined,
    }),
  );
  client.on("error", () => {});
  await once(client, "secureConnect");
  near.held = true;
  client.end("bye");
  await near.ending.promise;
  const handle = (client as unknown as { _handle: { _parentWrap: { doWrite(...args: unknown[]): number } } })._handle;
  return {
    write: () => handle._parentWrap.doWrite({}, [Buffer.from("late")]),
    close: () => {
      client.destroy();
      server.destroy();
    },
  };
}

test("a write while the end is under way fails, where Node itself would end the process", async () => {
  const bare = await ending((socket) => socket);
  assert.throws(bare.write, { code: "ERR_INTERNAL_ASSERTION" });
  bare.close();
  const guarded = await ending(survivable);
  assert.ok(guarded.write() < 0);
  guarded.close();
});
