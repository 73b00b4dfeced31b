import {
  CLOSED,
  type Connection,
  ESTABLISHED,
  FIN_WAIT_2,
  RECOVER_NONE,
  RECOVER_TIMEOUT,
  SYN_RECEIVED,
  SYN_SENT,
  TIME_WAIT,
} from "./connection.ts";
import { finish, timedOut } from "./lifecycle.ts";
import { since } from "./segment.ts";
import { sendProbe, sendSyn } from "./transmit.ts";

const KEEPALIVE_INTERVAL = 15_000;
const KEEPALIVE_PROBES = 5;

/**
 * Sees to it that the connection's timer fires when the next of its deadlines is due. The timer is only ever moved
 * forward in time by firing: deadlines that move with every packet cost nothing.
 */
export function schedule(c: Connection, now: number): void {
  if (c.state === CLOSED || c.state === TIME_WAIT) return;
  let at = Number.POSITIVE_INFINITY;
  if (c.retransmitAt !== 0) at = c.retransmitAt;
  if (c.lingerAt !== 0 && c.lingerAt < at) at = c.lingerAt;
  if (c.keepAliveAt !== 0 && c.keepAliveAt < at) at = c.keepAliveAt;
  if (at === Number.POSITIVE_INFINITY || (c.timer && c.timerAt <= at)) return;
  c.timer?.cancel();
  c.timerAt = at;
  c.timer = c.host.clock.after(Math.max(0, at - now), () => {
    c.timer = undefined;
    expire(c);
  });
}

function expire(c: Connection): void {
  const now = c.host.clock.monotonic();
  if (c.lingerAt !== 0 && c.lingerAt <= now) lingered(c, now);
  if (c.state !== CLOSED && c.retransmitAt !== 0 && c.retransmitAt <= now) retransmit(c, now);
  if (c.state !== CLOSED && c.keepAliveAt !== 0 && c.keepAliveAt <= now) keepAlive(c, now);
  schedule(c, now);
}

/** The handshake, or the end of a connection whose stream is gone, takes too long. */
function lingered(c: Connection, now: number): void {
  if (c.state === SYN_RECEIVED && !c.active) {
    finish(c);
    return;
  }
  if (c.state < ESTABLISHED) {
    timedOut(c, "no answer");
    return;
  }
  // Data that still goes out may take its time.
  const progressed = c.stuckSince + c.host.limits.linger;
  if (c.state !== FIN_WAIT_2 && c.retransmitAt !== 0 && !c.persisting && progressed > now) c.lingerAt = progressed;
  else timedOut(c, "the peer does not close");
}

/** The retransmission timer (RFC 6298 5) or, with the window closed, the persist timer. */
function retransmit(c: Connection, now: number): void {
  if (c.state === SYN_SENT || c.state === SYN_RECEIVED) {
    c.rto.backOff();
    c.timedAt = 0;
    c.retransmitAt = now + c.rto.value;
    sendSyn(c, now);
    return;
  }
  const silentSince = c.persisting ? Math.max(c.stuckSince, c.lastHeard) : c.stuckSince;
  if (now - silentSince >= c.host.limits.user) {
    timedOut(c, "no acknowledgement");
    return;
  }
  if (c.persisting) {
    c.probes = Math.min(c.probes + 1, 16);
    c.retransmitAt = 0;
    sendProbe(c, now);
    // A window that is open but small is used now; otherwise this sets the next deadline.
    c.host.dirty(c);
    return;
  }
  const first = c.recovery !== RECOVER_TIMEOUT;
  c.congestion.expired(first);
  if (first) {
    c.undoable = true;
    c.undoStamp = c.timestamp(now);
  }
  c.reordering = 3;
  if (c.board.reneged(c.sendUna)) c.board.clear();
  c.recovery = RECOVER_TIMEOUT;
  c.recover = c.dataSent;
  c.lostEdge = c.recover;
  c.highRetransmit = c.sendUna;
  c.duplicates = 0;
  c.duplicateBytes = 0;
  c.retransmitNow = true;
  c.rto.backOff();
  c.retransmitAt = now + c.rto.value;
  c.host.dirty(c);
}

function keepAlive(c: Connection, now: number): void {
  const quiet = now - c.lastHeard;
  if (quiet < c.host.limits.keepAlive) {
    c.keepAliveProbes = 0;
    c.keepAliveAt = c.lastHeard + c.host.limits.keepAlive;
    return;
  }
  if (c.keepAliveProbes++ >= KEEPALIVE_PROBES) {
    timedOut(c, "the peer is silent");
    return;
  }
  c.keepAliveAt = now + KEEPALIVE_INTERVAL;
  // Data under way is a probe in itself.
  if (c.recovery === RECOVER_NONE && since(c.sendNext, c.sendUna) === 0) sendProbe(c, now);
}
