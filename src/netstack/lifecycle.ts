import { IchorError } from "#lib/errors.ts";
import { formatHostPort } from "#lib/ip.ts";
import { ACK_NONE, CLOSED, type Connection, SYN_SENT, TIME_WAIT } from "./connection.ts";
import { sendReset, sendSyn } from "./transmit.ts";

/** The far end in words. */
export function peerName(c: Connection): string {
  return formatHostPort(c.remoteAddress, c.remotePort);
}

/** Begins the handshake: SYN for SYN_SENT, SYN and ACK for SYN_RECEIVED. */
export function open(c: Connection, now: number): void {
  c.lingerAt = now + c.host.limits.connect;
  c.retransmitAt = now + c.rto.value;
  if (!c.timestamps) c.timedAt = now;
  sendSyn(c, now);
}

/** Both directions are closed: the connection lingers to answer what still comes (RFC 9293 TIME-WAIT). */
export function timeWait(c: Connection): void {
  stop(c);
  c.state = TIME_WAIT;
  c.host.enterTimeWait(c);
}

/** Ends in good order. What arrived stays for the stream to read. */
export function finish(c: Connection): void {
  if (c.state === CLOSED) return;
  stop(c);
  c.state = CLOSED;
  c.host.closed(c);
}

/** Ends at once, with RST unless the peer is known to be gone; `error` goes to whoever uses the connection. */
export function abort(c: Connection, error: Error | undefined, options: { reset: boolean }): void {
  if (c.state === CLOSED) return;
  if (options.reset && c.state !== TIME_WAIT) sendReset(c);
  const { waiting } = c;
  finish(c);
  c.arrived.clear();
  c.settle?.(error ?? new IchorError("unavailable", `connection to ${peerName(c)} closed`));
  c.settle = undefined;
  if (!c.detached) c.stream?.destroy(error);
  waiting?.done(error);
}

/** The peer sent RST. */
export function reset(c: Connection): void {
  // What comes late must not cut short the time of waiting (RFC 1337).
  if (c.state === TIME_WAIT) return;
  const what = c.state === SYN_SENT ? "refused" : "reset by the peer";
  abort(c, new IchorError("unavailable", `connection to ${peerName(c)} ${what}`), { reset: false });
}

/** Nobody answers. */
export function timedOut(c: Connection, why: string): void {
  abort(c, new IchorError("unavailable", `connection to ${peerName(c)} timed out: ${why}`), { reset: true });
}

/** The stream was destroyed. When it had ended its side, what was written still goes out; otherwise the peer gets RST. */
export function detach(c: Connection, failed: boolean): void {
  if (c.detached) return;
  c.detached = true;
  c.arrived.clear();
  if (c.state === CLOSED || c.state === TIME_WAIT) return;
  if (failed || !c.finWanted) {
    abort(c, undefined, { reset: true });
    return;
  }
  c.lingerAt = c.host.clock.monotonic() + c.host.limits.linger;
  c.host.dirty(c);
}

function stop(c: Connection): void {
  c.timer?.cancel();
  c.timer = undefined;
  c.retransmitAt = 0;
  c.keepAliveAt = 0;
  c.lingerAt = 0;
  c.persisting = false;
  c.ack = ACK_NONE;
  c.out.clear();
  c.board.clear();
  c.ahead = undefined;
  c.waiting = undefined;
}
