import { Duplex } from "node:stream";
import { IchorError } from "#lib/errors.ts";
import { CLOSED, type Connection, TIME_WAIT } from "./connection.ts";
import { admit } from "./flush.ts";
import { detach, peerName } from "./lifecycle.ts";
import { windowOpened } from "./transmit.ts";

const HIGH_WATER = 65_536;
const READ_HIGH_WATER = 16_384;

/**
 * A TCP connection as a stream, close enough to a `net.Socket` for `tls`, `http` and `http2`. Ends its own side when the
 * peer ended its; set `allowHalfOpen` to keep it, as is right below a TLS server whose clients end before the answer.
 * `destroy` before `end` resets the connection. Fails with `unavailable` when the peer resets it or is silent for too
 * long; other than with sockets, an "error" that nobody listens to ends no process: thousands of machines hang on it.
 */
export class TcpStream extends Duplex {
  /** Canonical text. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly remoteFamily = "IPv6";
  /** Canonical text. */
  readonly localAddress: string;
  readonly localPort: number;
  readonly #connection: Connection;
  /** The reader has room. */
  #wanted = false;
  #ended = false;

  /** Made by the stack. */
  constructor(connection: Connection) {
    super({
      allowHalfOpen: false,
      writableHighWaterMark: HIGH_WATER,
      // Below its mark a reader does not say that it took something: that much must never close the window.
      readableHighWaterMark: Math.min(READ_HIGH_WATER, connection.host.limits.receive >> 2),
    });
    this.#connection = connection;
    this.remoteAddress = connection.remoteAddress;
    this.remotePort = connection.remotePort;
    this.localAddress = connection.host.localAddress;
    this.localPort = connection.localPort;
    this.on("error", () => {});
  }

  /** Gives the reader what arrived, as far as it has room; the stack calls it. */
  deliver(): void {
    const c = this.#connection;
    while (this.#wanted && c.arrived.length > 0) {
      const chunk = c.arrived.take();
      if (chunk) this.#wanted = this.push(chunk);
    }
    if (c.finReceived && c.arrived.length === 0 && !this.#ended && !this.destroyed) {
      this.#ended = true;
      this.push(null);
    }
  }

  override _read(): void {
    this.#wanted = true;
    const c = this.#connection;
    if (c.arrived.length > 0 || (c.finReceived && !this.#ended)) c.host.dirty(c);
    // What is being read right now still counts as unread; it will not by the time of the flush.
    else if (!c.finReceived && c.state !== CLOSED && windowOpened(c, 0)) c.host.dirty(c);
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#take([chunk], done);
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: (error?: Error | null) => void): void {
    this.#take(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#connection.finWanted = true;
    this.#connection.host.dirty(this.#connection);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    detach(this.#connection, error !== null);
    done(error);
  }

  /** Whether small writes go out at once. Default true, other than for sockets. */
  setNoDelay(noDelay = true): this {
    this.#connection.noDelay = noDelay;
    return this;
  }
  /** Nothing to set: every connection is kept alive. */
  setKeepAlive(): this {
    return this;
  }
  /** Nothing to set: whoever wants a deadline has a clock. */
  setTimeout(): this {
    return this;
  }
  /** Nothing here keeps the process alive. */
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }

  #take(chunks: readonly Uint8Array[], done: (error?: Error | null) => void): void {
    const c = this.#connection;
    if (c.state === CLOSED || c.state === TIME_WAIT) {
      done(new IchorError("unavailable", `connection to ${peerName(c)} closed`));
      return;
    }
    c.waiting = { chunks, index: 0, at: 0, done };
    admit(c);
    c.host.dirty(c);
  }
}
