import { IchorError } from "#lib/errors.ts";
import { acknowledged } from "./acknowledge.ts";
import {
  ACK_DELAYED,
  ACK_NONE,
  ACK_NOW,
  CLOSE_WAIT,
  CLOSED,
  CLOSING,
  type Connection,
  ESTABLISHED,
  FIN_WAIT_1,
  FIN_WAIT_2,
  SYN_RECEIVED,
  SYN_SENT,
  TIME_WAIT,
} from "./connection.ts";
import { abort, peerName, reset, timeWait } from "./lifecycle.ts";
import { Reassembly } from "./reassembly.ts";
import { ACK, FIN, RST, type Segment, SYN, since } from "./segment.ts";
import { sendSyn } from "./transmit.ts";

/** Timestamps older than this say nothing any more (RFC 7323 5.5). */
const PAWS_FOR = 24 * 86_400_000;
const CHALLENGES = 10;
const SMALLEST_MSS = 88;

/** Takes over what the peer can do, from its SYN. */
export function agree(c: Connection, s: Segment, now: number): void {
  c.irs = s.seq;
  c.receiveNext = (s.seq + 1) | 0;
  c.lastAck = c.receiveNext;
  c.timestamps = s.timestamps;
  c.tsRecent = s.tsval;
  c.tsRecentAt = now;
  c.sackOk = s.sackPermitted;
  c.scaled = s.scale >= 0;
  if (c.scaled) c.sendScale = s.scale;
  else c.receiveScale = 0;
  // 1220 is what every IPv6 link carries (RFC 9293 3.7.1).
  const theirs = Math.max(SMALLEST_MSS, s.mss === 0 ? 1220 : s.mss);
  c.mss = Math.min(theirs, c.host.mtu - 60) - (c.timestamps ? 12 : 0);
  c.congestion.begin(c.mss);
  c.sendWindow = s.window;
  c.maxWindow = s.window;
  c.wl1 = s.seq;
  c.wl2 = c.iss;
}

/** A segment for the connection, in the order of RFC 9293 3.10.7.3 and 3.10.7.4. `refuse` answers it with RST. */
export function receive(c: Connection, s: Segment, now: number, refuse: (s: Segment) => void): void {
  if (c.state === SYN_SENT) {
    answered(c, s, now, refuse);
    return;
  }
  const flags = s.flags;
  if (c.timestamps && (flags & RST) === 0) {
    if (!s.timestamps) return;
    if (since(s.tsval, c.tsRecent) < 0 && now - c.tsRecentAt < PAWS_FOR) {
      challenge(c, now);
      return;
    }
  }
  const length = s.end - s.start;
  if (c.state === SYN_RECEIVED && flags & SYN && s.seq === c.irs) {
    // Our answer was lost.
    if (!(flags & (ACK | RST))) sendSyn(c, now);
    else if (c.active && flags & ACK) synAnswered(c, s, now, refuse);
    return;
  }
  if (!acceptable(c, s, length)) {
    if (flags & RST) return;
    if (length === 0 && !(flags & FIN)) {
      challenge(c, now);
      return;
    }
    // A repeated FIN: the last acknowledgement was lost.
    if (c.state === TIME_WAIT && flags & FIN) c.host.enterTimeWait(c);
    oweAck(c);
    return;
  }
  if (flags & RST) {
    // Only the exact number resets: others might be guesses (RFC 5961 3.2).
    if (s.seq === c.receiveNext) reset(c);
    else challenge(c, now);
    return;
  }
  if (flags & SYN) {
    challenge(c, now);
    return;
  }
  if (!(flags & ACK)) return;
  if (c.state === SYN_RECEIVED) {
    if (since(s.ack, c.sendUna) <= 0 || since(s.ack, c.sendNext) > 0) {
      refuse(s);
      return;
    }
    established(c, s, now);
  } else if (since(s.ack, c.sendNext) > 0 || since(s.ack, (c.sendUna - c.maxWindow) | 0) < 0) {
    challenge(c, now);
    return;
  }
  if (s.timestamps && since(s.seq, c.lastAck) <= 0 && since(s.tsval, c.tsRecent) >= 0) {
    c.tsRecent = s.tsval;
    c.tsRecentAt = now;
  }
  c.lastHeard = now;
  if (c.state !== TIME_WAIT) acknowledged(c, s, now);
  if (length > 0 || flags & FIN) takeData(c, s, length, now);
  if (closed(c)) return;
  c.host.dirty(c);
}

/** A function, so that the compiler forgets what it knew of the state. */
const closed = (c: Connection): boolean => c.state === CLOSED;

/** Our SYN got an answer (RFC 9293 3.10.7.3). */
function answered(c: Connection, s: Segment, now: number, refuse: (s: Segment) => void): void {
  if (s.flags & ACK && s.ack !== c.sendNext) {
    if (!(s.flags & RST)) refuse(s);
    return;
  }
  if (s.flags & RST) {
    if (s.flags & ACK) reset(c);
    return;
  }
  if (!(s.flags & SYN)) return;
  if (s.flags & ACK) {
    synAnswered(c, s, now, refuse);
    return;
  }
  // Both sides call at once.
  agree(c, s, now);
  c.state = SYN_RECEIVED;
  sendSyn(c, now);
}

function synAnswered(c: Connection, s: Segment, now: number, refuse: (s: Segment) => void): void {
  if (s.ack !== c.sendNext) {
    refuse(s);
    return;
  }
  const scale = c.receiveScale;
  agree(c, s, now);
  if (c.scaled) c.receiveScale = scale;
  c.advertised = (c.receiveNext + Math.min(c.receiveBuffer, 0xffff)) | 0;
  established(c, s, now);
  c.ack = ACK_NOW;
  c.host.dirty(c);
}

function established(c: Connection, s: Segment, now: number): void {
  c.state = ESTABLISHED;
  c.lastHeard = now;
  if (s.timestamps && c.timestamps && s.tsecr !== 0) {
    const rtt = since(c.timestamp(now), s.tsecr);
    if (rtt >= 0 && rtt <= c.host.limits.connect) c.rto.sample(rtt);
  } else if (c.timedAt !== 0) c.rto.sample(now - c.timedAt);
  c.timedAt = 0;
  c.sendUna = s.ack;
  c.sendWindow = s.flags & SYN ? s.window : s.window << c.sendScale;
  c.maxWindow = c.sendWindow;
  c.wl1 = s.seq;
  c.wl2 = s.ack;
  c.retransmitAt = 0;
  c.lingerAt = 0;
  c.lastSent = now;
  c.epochAt = now;
  c.keepAliveAt = now + c.host.limits.keepAlive;
  c.host.established(c);
}

/** Whether the segment touches the window. Pure acknowledgements may stand at its very edge, a FIN also at a closed one. */
function acceptable(c: Connection, s: Segment, length: number): boolean {
  const at = since(s.seq, c.receiveNext);
  const window = Math.max(0, since(c.advertised, c.receiveNext));
  const size = length + (s.flags & SYN ? 1 : 0) + (s.flags & FIN ? 1 : 0);
  if (size === 0) return at >= 0 && at <= window;
  if (at === 0) return true;
  return at < window && at + size > 0;
}

function takeData(c: Connection, s: Segment, length: number, now: number): void {
  if (c.finReceived) {
    oweAck(c);
    return;
  }
  let from = s.start;
  const old = since(c.receiveNext, s.seq);
  if (old > 0) from += Math.min(old, length);
  const room = since(c.advertised, s.seq);
  const to = room < length ? s.start + Math.max(0, room) : s.end;
  if (s.flags & FIN && to === s.end) {
    c.finSeen = true;
    c.finAt = (s.seq + length) | 0;
  }
  if (from < to && c.detached) {
    // Nobody is left to read it: the peer must not think otherwise (RFC 2525 2.17).
    const error = new IchorError("unavailable", `connection to ${peerName(c)} closed`);
    abort(c, error, { reset: true });
    return;
  }
  if (from < to) {
    if (old >= 0) inOrder(c, s, from, to, now);
    else {
      c.ahead ??= new Reassembly();
      c.ahead.add(s.seq, s.packet.slice(from, to), 2 * c.receiveBuffer);
      c.acksOwed++;
      c.ack = ACK_NOW;
    }
  } else if (length > 0) oweAck(c);
  if (c.finSeen && c.finAt === c.receiveNext) finReceived(c);
}

function inOrder(c: Connection, s: Segment, from: number, to: number, now: number): void {
  const count = to - from;
  c.arrived.append(s.packet, from, to);
  c.receiveNext = (c.receiveNext + count) | 0;
  c.unacked += count;
  c.epochBytes += count;
  if (c.ahead && !c.ahead.empty) {
    const before = c.receiveNext;
    c.receiveNext = c.ahead.take(before, (bytes) => c.arrived.append(bytes, 0, bytes.length));
    c.epochBytes += since(c.receiveNext, before);
    c.ack = ACK_NOW;
  } else if (c.unacked >= 2 * c.mss) c.ack = ACK_NOW;
  else if (c.ack === ACK_NONE) {
    c.ack = ACK_DELAYED;
    c.host.delayAck(c);
  }
  growBuffer(c, now);
}

/** Once a round trip: a reader that keeps pace gets a window of twice what arrives in one. */
function growBuffer(c: Connection, now: number): void {
  if (now - c.epochAt < Math.max(1, c.rto.srtt)) return;
  if (2 * c.epochBytes > c.receiveBuffer && c.unread < c.receiveBuffer / 2)
    c.receiveBuffer = Math.min(c.host.limits.receive, 2 * c.epochBytes);
  c.epochAt = now;
  c.epochBytes = 0;
}

function finReceived(c: Connection): void {
  c.receiveNext = (c.receiveNext + 1) | 0;
  c.finReceived = true;
  c.ahead = undefined;
  c.ack = ACK_NOW;
  if (c.state === ESTABLISHED) c.state = CLOSE_WAIT;
  else if (c.state === FIN_WAIT_1) c.state = CLOSING;
  else if (c.state === FIN_WAIT_2) {
    timeWait(c);
    c.ack = ACK_NOW;
  }
}

function oweAck(c: Connection): void {
  c.acksOwed++;
  c.ack = ACK_NOW;
  c.host.dirty(c);
}

/** Answers what may be an attack or an old duplicate with an acknowledgement, ten times a second at most (RFC 5961 7). */
function challenge(c: Connection, now: number): void {
  if (now - c.challengesAt >= 1_000) {
    c.challengesAt = now;
    c.challenges = 0;
  }
  if (c.challenges++ >= CHALLENGES) return;
  oweAck(c);
}

/** An ICMPv6 error about a segment that we did send: fatal only before the connection stands (RFC 5461). */
export function unreachable(c: Connection): void {
  if (c.state === SYN_SENT) abort(c, new IchorError("unavailable", `${peerName(c)} is unreachable`), { reset: false });
}

/** The path carries less than we thought. */
export function shrink(c: Connection, mtu: number): void {
  const mss = Math.max(1280, mtu) - 60 - (c.timestamps ? 12 : 0);
  if (mss >= c.mss || c.state < ESTABLISHED) return;
  c.mss = mss;
  c.congestion.mss = mss;
  c.highRetransmit = c.sendUna;
  c.retransmitNow = true;
  if (c.retransmitAt !== 0) c.retransmitAt = c.host.clock.monotonic();
  c.host.dirty(c);
}
