import {
  ACK_NONE,
  ACK_NOW,
  CLOSE_WAIT,
  type Connection,
  ESTABLISHED,
  FIN_WAIT_1,
  LAST_ACK,
  RECOVER_FAST,
  RECOVER_NONE,
  SYN_RECEIVED,
  TIME_WAIT,
} from "./connection.ts";
import { ACK, buildSegment, FIN, PSH, pushWord, RST, SYN, since } from "./segment.ts";

/** Data segments in one flush: then the event loop may take in acknowledgements before the next ones go. */
const BURST = 64;

/** Sends what may be sent: retransmissions, then new data, then FIN. */
export function output(c: Connection, now: number): void {
  if (c.state < ESTABLISHED || c.state === TIME_WAIT) return;
  const { cwnd } = c.congestion;
  let pipe = inFlight(c);
  if (c.sendUna === c.sendNext && c.out.length > 0 && now - c.lastSent > c.rto.value) c.congestion.idle();
  let budget = BURST;
  if (c.recovery !== RECOVER_NONE) {
    for (; budget > 0; budget--) {
      const from = since(c.highRetransmit, c.sendUna) > 0 ? c.highRetransmit : c.sendUna;
      const end = since(c.lostEdge, c.dataSent) < 0 ? c.lostEdge : c.dataSent;
      const hole = c.board.hole(from, end);
      if (!hole) break;
      const length = Math.min(c.mss, since(hole[1], hole[0]));
      if (!c.retransmitNow && pipe + length > cwnd) break;
      c.retransmitNow = false;
      c.timedAt = 0;
      c.retransmittedAt = now;
      c.highRetransmit = (hole[0] + length) | 0;
      pipe += length;
      sendData(c, hole[0], length, c.finSent && c.highRetransmit === c.dataSent, now);
    }
  }
  if (c.retransmitNow) {
    c.retransmitNow = false;
    if (c.finSent && c.sendUna === c.dataSent) send(c, c.dataSent, FIN | ACK, now);
  }
  let unsent = c.unsent;
  for (; unsent > 0 && budget > 0; budget--) {
    const length = Math.min(c.mss, unsent, since((c.sendUna + c.sendWindow) | 0, c.sendNext));
    if (length <= 0) break;
    if (pipe + length > cwnd) {
      c.cwndLimited = true;
      break;
    }
    if (length < c.mss) {
      // Silly window avoidance (RFC 9293 3.8.6.2.1); the persist timer overrides it by `persisting`.
      if (length < unsent && length < c.maxWindow / 2 && !(c.persisting && pipe === 0)) break;
      if (length === unsent && !c.noDelay && pipe > 0 && !c.finWanted) break;
    }
    const seq = c.sendNext;
    c.sendNext = (seq + length) | 0;
    unsent -= length;
    pipe += length;
    if (c.timedAt === 0 && !c.timestamps) {
      c.timedSeq = c.sendNext;
      c.timedAt = now;
    }
    started(c, now);
    sendData(c, seq, length, c.finWanted && unsent === 0 && finished(c), now);
  }
  if (unsent > 0 && budget === 0) c.host.dirty(c);
  if (unsent === 0 && pipe < cwnd / 2) c.cwndLimited = false;
  if (unsent === 0 && c.finWanted && !c.finSent) {
    const seq = c.sendNext;
    started(c, now);
    finished(c);
    send(c, seq, FIN | ACK, now);
  }
  if (unsent > 0 && c.sendUna === c.sendNext && c.retransmitAt === 0) {
    c.persisting = true;
    if (c.probes === 0) c.stuckSince = now;
    c.retransmitAt = now + Math.min(60_000, c.rto.value * 2 ** c.probes);
  }
}

/** Takes note that the FIN goes out now. */
function finished(c: Connection): true {
  c.finSent = true;
  c.sendNext = (c.sendNext + 1) | 0;
  c.state = c.state === CLOSE_WAIT ? LAST_ACK : FIN_WAIT_1;
  return true;
}

/** Something that wants an acknowledgement goes out. */
function started(c: Connection, now: number): void {
  if (c.retransmitAt !== 0 && !c.persisting) return;
  c.persisting = false;
  c.retransmitAt = now + c.rto.value;
  c.stuckSince = now;
}

/** Bytes thought to be in the network (RFC 6675 SetPipe). */
function inFlight(c: Connection): number {
  const sent = c.dataSent;
  if (c.board.empty && (c.recovery === RECOVER_NONE || (!c.sackOk && c.recovery === RECOVER_FAST)))
    return Math.max(0, since(sent, c.sendUna) - c.duplicateBytes);
  if (c.recovery === RECOVER_NONE) return c.board.unreported(c.sendUna, sent);
  const lost = since(c.lostEdge, c.sendUna) > 0 ? c.lostEdge : c.sendUna;
  const again = since(c.highRetransmit, lost) < 0 ? c.highRetransmit : lost;
  return c.board.unreported(lost, sent) + c.board.unreported(c.sendUna, again);
}

function sendData(c: Connection, seq: number, length: number, fin: boolean, now: number): void {
  const offset = since(seq, c.sendUna);
  const flags = ACK | (offset + length === c.out.length ? PSH : 0) | (fin ? FIN : 0);
  send(c, seq, flags, now, offset, length);
}

/** An acknowledgement without data, with what is held beyond gaps (RFC 2018). */
export function sendAck(c: Connection, now: number): void {
  send(c, c.sendNext, ACK, now);
}

/** Provokes an acknowledgement by a segment that the peer must refuse: to look at a closed window, or whether it lives. */
export function sendProbe(c: Connection, now: number): void {
  send(c, (c.sendUna - 1) | 0, ACK, now);
}

function send(c: Connection, seq: number, flags: number, now: number, offset = 0, length = 0): void {
  const options: number[] = [];
  if (c.timestamps) {
    options.push(1, 1, 8, 10);
    pushWord(options, c.timestamp(now));
    pushWord(options, c.tsRecent);
  }
  // Blocks take room: only without data, where there is plenty.
  if (length === 0 && c.sackOk && c.ahead && !c.ahead.empty) {
    const edges = c.ahead.ranges(c.timestamps ? 3 : 4);
    options.push(1, 1, 5, 2 + edges.length * 4);
    for (const edge of edges) pushWord(options, edge);
  }
  const window = announce(c) >> c.receiveScale;
  if (length > 0) {
    c.lastSent = now;
    const fill = (packet: Buffer, at: number) => c.out.copy(offset, length, packet, at);
    c.host.transmit(buildSegment(c, { seq, ack: c.receiveNext, flags, window }, options, length, fill));
  } else c.host.transmit(buildSegment(c, { seq, ack: c.receiveNext, flags, window }, options));
  c.lastAck = c.receiveNext;
  c.ack = ACK_NONE;
  c.unacked = 0;
}

/** By how much the window could grow beyond what the peer knows. */
function growth(c: Connection, edge: number, unread: number): number {
  return c.receiveBuffer - unread - edge;
}

/** The window to announce, and remembers it: its right edge moves in steps worth a segment (RFC 9293 3.8.6.2.2), never back. */
function announce(c: Connection): number {
  const edge = Math.max(0, since(c.advertised, c.receiveNext));
  const more = growth(c, edge, c.unread);
  const window = more >= Math.min(c.mss, c.receiveBuffer >> 1) ? edge + more : edge;
  const unit = 1 << c.receiveScale;
  const shown = Math.min(window, 0xffff * unit) & -unit;
  if (shown > edge) c.advertised = (c.receiveNext + shown) | 0;
  return shown;
}

/** The reader took so much that the peer should hear of the window: it at least doubles, or is half the buffer. */
export function windowOpened(c: Connection, unread = c.unread): boolean {
  const edge = Math.max(0, since(c.advertised, c.receiveNext));
  return growth(c, edge, unread) >= Math.min(c.receiveBuffer >> 1, Math.max(2 * c.mss, edge));
}

/** Sends the acknowledgements that are owed. */
export function acknowledge(c: Connection, now: number): void {
  if (c.state < ESTABLISHED) return;
  // A peer without SACK counts duplicates: it gets each of them.
  for (; !c.sackOk && c.acksOwed > 1; c.acksOwed--) sendAck(c, now);
  c.acksOwed = 0;
  if (c.ack === ACK_NOW || (!c.finReceived && windowOpened(c))) sendAck(c, now);
}

/** SYN, or SYN and ACK, with all that we can do or what both can. */
export function sendSyn(c: Connection, now: number): void {
  const { mtu } = c.host;
  const passive = c.state === SYN_RECEIVED;
  const options = [2, 4, (mtu - 60) >> 8, (mtu - 60) & 255];
  const timestamps = !passive || c.timestamps;
  const sack = !passive || c.sackOk;
  if (timestamps) {
    options.push(sack ? 4 : 1, sack ? 2 : 1, 8, 10);
    pushWord(options, c.timestamp(now));
    pushWord(options, passive ? c.tsRecent : 0);
  } else if (sack) options.push(1, 1, 4, 2);
  if (!passive || c.scaled) options.push(1, 3, 3, c.receiveScale);
  const window = Math.min(c.receiveBuffer, 0xffff);
  const flags = passive ? SYN | ACK : SYN;
  c.sendNext = (c.iss + 1) | 0;
  c.lastAck = c.receiveNext;
  if (passive) c.advertised = (c.receiveNext + window) | 0;
  c.host.transmit(buildSegment(c, { seq: c.iss, ack: passive ? c.receiveNext : 0, flags, window }, options));
}

/** Tells the peer that the connection is no more. */
export function sendReset(c: Connection): void {
  if (c.state < SYN_RECEIVED) return;
  c.host.transmit(buildSegment(c, { seq: c.sendNext, ack: c.receiveNext, flags: RST | ACK, window: 0 }, []));
}
