import {
  CLOSE_WAIT,
  CLOSING,
  type Connection,
  FIN_WAIT_1,
  FIN_WAIT_2,
  LAST_ACK,
  RECOVER_FAST,
  RECOVER_NONE,
  RECOVER_TIMEOUT,
} from "./connection.ts";
import { finish, timeWait } from "./lifecycle.ts";
import { type Segment, since } from "./segment.ts";

/** Takes the acknowledgement of a segment that was found acceptable (RFC 9293 3.10.7.4, 5681, 6675). */
export function acknowledged(c: Connection, s: Segment, now: number): void {
  const windowBefore = c.sendWindow;
  updateWindow(c, s);
  const news = c.sackOk && s.sack !== undefined && takeSack(c, s.sack);
  const count = since(s.ack, c.sendUna);
  if (count > 0) progress(c, s, count, now);
  else if (
    s.ack === c.sendUna &&
    since(c.dataSent, c.sendUna) > 0 &&
    (news || (!c.sackOk && s.start === s.end && c.sendWindow === windowBefore))
  ) {
    c.duplicates++;
    if (!c.sackOk) c.duplicateBytes = Math.min(c.duplicateBytes + c.mss, since(c.dataSent, c.sendUna));
  }
  findLoss(c, now);
}

function updateWindow(c: Connection, s: Segment): void {
  const newer = since(s.seq, c.wl1);
  if (newer < 0 || (newer === 0 && since(s.ack, c.wl2) < 0)) return;
  c.sendWindow = s.window << c.sendScale;
  if (c.sendWindow > c.maxWindow) c.maxWindow = c.sendWindow;
  c.wl1 = s.seq;
  c.wl2 = s.ack;
  if (c.persisting && c.sendWindow > 0) {
    c.persisting = c.sendWindow < c.mss;
    c.probes = 0;
    if (!c.persisting) c.retransmitAt = 0;
  }
}

/** Ranges that make no sense are ignored; those below the acknowledgement report duplicates (RFC 2883), no loss. */
function takeSack(c: Connection, edges: readonly number[]): boolean {
  let news = false;
  for (let i = 0; i < edges.length; i += 2) {
    const left = edges[i]!;
    const right = edges[i + 1]!;
    if (since(left, c.sendUna) <= 0 || since(right, left) <= 0 || since(right, c.sendNext) > 0) continue;
    if (c.board.add(left, right)) news = true;
  }
  return news;
}

function progress(c: Connection, s: Segment, count: number, now: number): void {
  measure(c, s, now);
  const finAcked = c.finSent && s.ack === c.sendNext;
  c.out.release(finAcked ? count - 1 : count);
  c.sendUna = s.ack;
  c.board.acknowledge(s.ack);
  c.stuckSince = now;
  c.probes = 0;
  c.duplicates = 0;
  if (c.recovery === RECOVER_NONE) {
    c.duplicateBytes = 0;
    if (c.cwndLimited) c.congestion.acknowledged(count, now, c.rto.srtt);
  } else if (spurious(c, s)) undo(c);
  else recovering(c, count, now);
  c.retransmitAt = s.ack === c.sendNext ? 0 : now + c.rto.value;
  if (finAcked) finished(c);
}

/** The first acknowledgement in a recovery tells whether the original or the copy arrived (Eifel, RFC 3522). */
function spurious(c: Connection, s: Segment): boolean {
  const { undoable } = c;
  c.undoable = false;
  return undoable && c.timestamps && s.tsecr !== 0 && since(s.tsecr, c.undoStamp) < 0;
}

/** Nothing was lost: the path reorders, or was slow for a moment. */
function undo(c: Connection): void {
  if (c.recovery === RECOVER_FAST) c.reordering = Math.min(300, c.reordering * 2);
  c.recovery = RECOVER_NONE;
  c.retransmitNow = false;
  c.duplicateBytes = 0;
  c.congestion.undo();
}

function recovering(c: Connection, count: number, now: number): void {
  if (c.recovery === RECOVER_TIMEOUT) c.congestion.acknowledged(count, now, c.rto.srtt);
  if (since(c.sendUna, c.recover) >= 0) {
    c.recovery = RECOVER_NONE;
    c.duplicateBytes = 0;
    return;
  }
  c.duplicateBytes = Math.max(0, c.duplicateBytes - Math.max(0, count - c.mss));
  if (since(c.highRetransmit, c.sendUna) <= 0) {
    // A partial acknowledgement: the next segment is lost as well (RFC 6582).
    c.highRetransmit = c.sendUna;
    const edge = (c.sendUna + c.mss) | 0;
    if (since(edge, c.lostEdge) > 0) c.lostEdge = edge;
  }
}

/** Takes a round-trip sample where the acknowledgement allows one (RFC 7323 4, RFC 6298 3). */
function measure(c: Connection, s: Segment, now: number): void {
  c.rto.progress();
  if (c.timestamps) {
    // An echo from before the retransmission means that only its acknowledgement was late: that is no round trip.
    if (s.tsecr === 0 || (c.recovery !== RECOVER_NONE && since(s.tsecr, c.timestamp(c.retransmittedAt)) < 0)) return;
    const rtt = since(c.timestamp(now), s.tsecr);
    if (rtt >= 0 && rtt < 300_000) c.rto.sample(rtt);
  } else if (c.timedAt !== 0 && since(s.ack, c.timedSeq) >= 0) {
    c.rto.sample(now - c.timedAt);
    c.timedAt = 0;
  }
}

/** Fast retransmit on three duplicates, or when SACK shows enough beyond a gap. */
function findLoss(c: Connection, now: number): void {
  if (c.board.empty && c.duplicates < 3) return;
  // Where segments overtake one another more are needed, but not more than there are.
  const enough = Math.max(3, Math.min(c.reordering, Math.floor(since(c.dataSent, c.sendUna) / c.mss) - 1));
  let edge = c.sackOk ? c.board.lostBelow(c.sendUna, (enough - 1) * c.mss, enough) : c.sendUna;
  if (c.recovery === RECOVER_NONE) {
    if (since(edge, c.sendUna) <= 0) {
      if (c.duplicates < enough) return;
      edge = (c.sendUna + c.mss) | 0;
    }
    c.recovery = RECOVER_FAST;
    c.recover = c.dataSent;
    c.highRetransmit = c.sendUna;
    c.lostEdge = edge;
    c.retransmitNow = true;
    c.undoable = true;
    c.undoStamp = c.timestamp(now);
    c.congestion.lost();
  } else if (since(edge, c.lostEdge) > 0) c.lostEdge = edge;
}

function finished(c: Connection): void {
  if (c.state === FIN_WAIT_1) c.state = FIN_WAIT_2;
  else if (c.state === CLOSING) timeWait(c);
  else if (c.state === LAST_ACK || c.state === CLOSE_WAIT) finish(c);
}
