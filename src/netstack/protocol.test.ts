import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIP } from "#lib/ip.ts";
import { upperChecksum } from "./checksum.ts";
import { writeIPv6 } from "./ipv6.ts";
import { ACK, FIN, PSH, pushWord, RST, type Segment, SYN, since } from "./segment.ts";
import type { TcpStream } from "./stack.ts";
import { dataOf, Raw } from "./testing.ts";

/** One line for each segment, numbers from where the two sides began. */
function lines(segments: Segment[], iss: number, irs: number): string[] {
  return segments.map((s) => {
    const names = [
      [SYN, "SYN"],
      [FIN, "FIN"],
      [RST, "RST"],
      [PSH, "PSH"],
      [ACK, "ACK"],
    ] as const;
    const flags = names.filter(([bit]) => s.flags & bit).map(([, name]) => name);
    const ack = s.flags & ACK ? ` ${since(s.ack, irs)}` : "";
    const sack = s.sack ? ` sack ${s.sack.map((edge) => since(edge, irs)).join("-")}` : "";
    const data = s.end > s.start ? ` "${dataOf(s)}"` : "";
    return `${since(s.seq, iss)} ${flags.join("+")}${ack}${sack}${data}`;
  });
}

/** A peer that has a connection to port 80 of the stack; its numbers begin at `irs`, the stack's at `iss`. */
async function open(raw: Raw, options: { irs?: number; options?: number[]; window?: number } = {}) {
  const irs = options.irs ?? 1_000;
  let stream: TcpStream | undefined;
  const listener = raw.stack.listen(80, (made) => {
    stream = made;
  });
  raw.send({ seq: irs, flags: SYN, options: options.options ?? [], window: options.window ?? 65_535 });
  const [answer] = await raw.take();
  assert.ok(answer);
  assert.equal(answer.flags, SYN | ACK);
  assert.equal(answer.ack, (irs + 1) | 0);
  const iss = answer.seq;
  raw.send({ seq: irs + 1, ack: (iss + 1) | 0, window: options.window ?? 65_535 });
  await raw.take();
  listener.close();
  assert.ok(stream);
  const events: string[] = [];
  stream.on("error", (error) => events.push(error.message));
  stream.on("close", () => events.push("close"));
  const say = (at: number, fields: Partial<Parameters<Raw["send"]>[0]> & { acks?: number } = {}) => {
    const { acks = 1, ...rest } = fields;
    raw.send({ seq: (irs + at) | 0, ack: (iss + acks) | 0, ...rest });
  };
  const hear = async () => lines(await raw.take(), iss, irs);
  return { stream, say, hear, iss, irs, events, answer };
}

test("SYN options are answered in kind", async () => {
  const plain = await open(new Raw());
  assert.deepEqual([plain.answer.scale, plain.answer.sackPermitted, plain.answer.timestamps], [-1, false, false]);
  assert.equal(plain.answer.mss, 1220);
  const options = [2, 4, 4, 0, 4, 2, 8, 10];
  pushWord(options, 77);
  pushWord(options, 0);
  options.push(1, 3, 3, 9);
  const raw = new Raw();
  raw.stack.listen(80, () => {});
  raw.send({ seq: 5, flags: SYN, options });
  const [answer] = await raw.take();
  assert.ok(answer);
  assert.deepEqual([answer.sackPermitted, answer.timestamps, answer.tsecr], [true, true, 77]);
  assert.ok(answer.scale > 0);
});

test("data is acknowledged every second segment, or after 40 ms", async () => {
  const raw = new Raw();
  const { stream, say, hear } = await open(raw);
  stream.resume();
  say(1, { data: "x".repeat(1220) });
  assert.deepEqual(await hear(), []);
  say(1221, { data: "x".repeat(1220) });
  assert.deepEqual(await hear(), ["1 ACK 2441"]);
  say(2441, { data: "x" });
  raw.clock.advance(39);
  assert.deepEqual(await hear(), []);
  raw.clock.advance(1);
  assert.deepEqual(await hear(), ["1 ACK 2442"]);
  // An answer carries the acknowledgement.
  say(2442, { data: "ping" });
  stream.write("pong");
  assert.deepEqual(await hear(), [`1 PSH+ACK 2446 "pong"`]);
});

test("gaps are reported with SACK, the newest first, and filled in order", async () => {
  const raw = new Raw();
  const { stream, say, hear } = await open(raw, { options: [4, 2, 1, 1] });
  let text = "";
  stream.on("data", (chunk) => {
    text += chunk;
  });
  say(4, { data: "def" });
  assert.deepEqual(await hear(), ["1 ACK 1 sack 4-7"]);
  say(10, { data: "jkl" });
  assert.deepEqual(await hear(), ["1 ACK 1 sack 10-13-4-7"]);
  say(5, { data: "ef" });
  assert.match((await hear()).join(), /^1 ACK 1 sack /);
  say(1, { data: "abcd" });
  assert.deepEqual(await hear(), ["1 ACK 7 sack 10-13"]);
  say(6, { data: "fghijk", flags: ACK | FIN });
  assert.deepEqual(await hear(), ["1 ACK 13"]);
  assert.equal(text, "abcdefghijkl");
  // The FIN stood before bytes that were already there: it was a lie, and the stream goes on.
  assert.equal(stream.readableEnded, false);
});

test("a FIN ahead of a gap counts when the gap is filled", async () => {
  const raw = new Raw();
  const { stream, say, hear } = await open(raw);
  stream.allowHalfOpen = true;
  stream.resume();
  say(3, { data: "c", flags: ACK | FIN });
  assert.deepEqual(await hear(), ["1 ACK 1"]);
  say(1, { data: "ab" });
  assert.deepEqual(await hear(), ["1 ACK 5"]);
  assert.equal(stream.readableEnded, true);
});

test("closing goes through all states from both ends", async () => {
  const raw = new Raw();
  const passive = await open(raw);
  passive.stream.resume();
  passive.say(1, { flags: ACK | FIN });
  assert.deepEqual(await passive.hear(), ["1 ACK 2", "1 FIN+ACK 2"]);
  passive.say(2, { acks: 2 });
  assert.equal(raw.stack.size, 0);

  const other = new Raw();
  const active = await open(other);
  active.stream.resume();
  active.stream.end("z");
  assert.deepEqual(await active.hear(), [`1 FIN+PSH+ACK 1 "z"`]);
  // Both end at once: CLOSING, then TIME-WAIT.
  active.say(1, { flags: ACK | FIN, acks: 1 });
  assert.deepEqual(await active.hear(), ["3 ACK 2"]);
  active.say(2, { acks: 3 });
  await active.hear();
  assert.equal(other.stack.size, 1);
  active.say(1, { flags: ACK | FIN, acks: 3 });
  assert.deepEqual(await active.hear(), ["3 ACK 2"], "a repeated FIN is acknowledged again");
  active.say(2, { flags: RST, acks: 3 });
  assert.equal(other.stack.size, 1, "RST does not end TIME-WAIT");
  other.clock.advance(60_000);
  assert.equal(other.stack.size, 0);
});

test("in TIME-WAIT a new SYN with a later number opens a new connection", async () => {
  const raw = new Raw();
  const { stream, say, hear } = await open(raw);
  stream.resume();
  stream.end();
  await hear();
  say(1, { flags: ACK | FIN, acks: 2 });
  await hear();
  raw.stack.listen(80, () => {});
  raw.send({ seq: 900, flags: SYN });
  assert.deepEqual(await hear(), ["2 ACK 2"]);
  raw.send({ seq: 5_000, flags: SYN });
  const [answer] = await raw.take();
  assert.equal(answer?.flags, SYN | ACK);
  assert.equal(answer?.ack, 5_001);
});

test("RST counts only with the exact number; SYN and wild acknowledgements are challenged, ten a second", async () => {
  const raw = new Raw();
  const { say, hear, events } = await open(raw);
  say(2, { flags: RST });
  assert.deepEqual(await hear(), ["1 ACK 1"]);
  say(100_000, { flags: RST });
  assert.deepEqual(await hear(), []);
  say(1, { flags: SYN });
  assert.deepEqual(await hear(), ["1 ACK 1"]);
  say(1, { acks: 1_000 });
  assert.deepEqual(await hear(), ["1 ACK 1"]);
  let answers = 0;
  for (let i = 0; i < 50; i++) {
    say(1, { acks: 5_000 });
    answers += (await hear()).length;
  }
  assert.equal(answers, 7);
  raw.clock.advance(1_000);
  say(1, { acks: 5_000 });
  assert.equal((await hear()).length, 1);
  assert.deepEqual(events, []);
  say(1, { flags: RST });
  await hear();
  assert.match(events.join(), /reset by the peer,close/);
});

test("what belongs to no connection is answered by RST, but never RST itself", async () => {
  const raw = new Raw();
  raw.send({ seq: 7, flags: SYN, data: "abc" });
  raw.send({ seq: 7, ack: 99, flags: ACK });
  raw.send({ seq: 7, flags: RST });
  raw.send({ seq: 7, ack: 99, flags: RST | ACK });
  assert.deepEqual(lines(await raw.take(), 0, 0), ["0 RST+ACK 11", "99 RST"]);
});

test("a lost SYN-ACK is sent again, with growing pauses, and forgotten after 30 s", async () => {
  const raw = new Raw();
  raw.stack.listen(80, () => {});
  raw.send({ seq: 7, flags: SYN });
  raw.send({ seq: 7, flags: SYN });
  const times: number[] = [];
  let seen = raw.out.length;
  assert.equal(seen, 2);
  await raw.take();
  seen = 0;
  while (raw.stack.size > 0) {
    raw.clock.advance(100);
    await raw.take().then((segments) => {
      for (const _ of segments) times.push(raw.clock.monotonic());
    });
  }
  assert.deepEqual(times, [1_000, 3_000, 7_000, 15_000]);
  assert.equal(raw.clock.monotonic(), 30_000);
  assert.equal(raw.clock.pending, 0);
});

test("a flood of SYNs takes no more than the backlog, and an honest peer still gets in", async () => {
  const raw = new Raw({ backlog: 16 });
  let opened = 0;
  raw.stack.listen(80, (stream) => {
    stream.on("error", () => {});
    opened++;
  });
  for (let port = 1; port <= 1_000; port++) raw.send({ seq: port, flags: SYN }, { localPort: port });
  assert.equal(raw.stack.size, 16);
  await raw.take();
  raw.send({ seq: 50, flags: SYN }, { localPort: 5_000 });
  const [answer] = await raw.take();
  assert.ok(answer);
  raw.send({ seq: 51, ack: answer.seq + 1 }, { localPort: 5_000 });
  await raw.take();
  assert.equal(opened, 1);
  raw.stack.close();
  assert.equal(raw.clock.pending, 0);
});

test("a closed window is probed with growing pauses and used as it opens", async () => {
  const raw = new Raw();
  const { stream, say, hear } = await open(raw, { window: 0 });
  stream.write("hello");
  assert.deepEqual(await hear(), []);
  const times: number[] = [];
  for (let i = 0; i < 160; i++) {
    raw.clock.advance(100);
    for (const line of await hear()) {
      assert.equal(line, "0 ACK 1");
      times.push(raw.clock.monotonic());
      say(1, { window: 0 });
    }
  }
  assert.ok(times.length >= 4 && times.length <= 8, times.join());
  say(1, { window: 3 });
  const small = await hear();
  assert.ok(small.length === 0 || small[0] === `1 ACK 1 "hel"`);
  say(1, { window: 100 });
  const got = [...small, ...(await hear())];
  if (got.at(-1) === `1 ACK 1 "hel"`) say(1, { window: 100, acks: 4 });
  const all = [...got, ...(await hear())].map((line) => /"(.*)"/.exec(line)?.[1] ?? "").join("");
  assert.equal(all, "hello");
});

test("the window that we announce follows the reader and never takes back what it gave", async () => {
  const raw = new Raw({ receive: 10_000 });
  const { stream, say, hear, irs } = await open(raw);
  let at = 1;
  let edge = 0;
  for (let i = 0; i < 30; i++) {
    say(at, { data: "x".repeat(1_000) });
    for (const s of await raw.take()) {
      const now = since(s.ack, irs) + s.window;
      assert.ok(now >= edge, "the right edge moved back");
      edge = now;
      at = since(s.ack, irs);
    }
    raw.clock.advance(50);
  }
  assert.ok(at <= 10_002 && at > 8_000, `${at}`);
  const before = edge;
  stream.resume();
  const opened = await hear();
  assert.ok(opened.length >= 1, "the reader made room: the peer must hear of it");
  say(at, { data: "x" });
  raw.clock.advance(50);
  const [last] = await raw.take();
  assert.ok(last && since(last.ack, irs) + last.window > before);
});

test("three duplicates bring a fast retransmission; a timeout slows down and starts over", async () => {
  const raw = new Raw();
  raw.clock.advance(1);
  const { stream, say, hear } = await open(raw, { options: [2, 4, 0, 100] });
  stream.write("a".repeat(100) + "b".repeat(100) + "c".repeat(100) + "d".repeat(100) + "e".repeat(100));
  assert.equal((await hear()).length, 5);
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(await hear(), []);
    say(1, { acks: 1 });
  }
  assert.deepEqual(await hear(), [`1 ACK 1 "${"a".repeat(100)}"`]);
  // A partial acknowledgement: the next is lost too.
  say(1, { acks: 201 });
  assert.deepEqual(await hear(), [`201 ACK 1 "${"c".repeat(100)}"`]);
  say(1, { acks: 501 });
  assert.deepEqual(await hear(), []);
  stream.write("f".repeat(100));
  await hear();
  const times: number[] = [];
  const from = raw.clock.monotonic();
  for (let i = 0; i < 800; i++) {
    raw.clock.advance(10);
    for (const _ of await raw.take()) times.push(raw.clock.monotonic() - from);
  }
  assert.ok(times.length >= 4);
  for (let i = 2; i < times.length; i++) {
    const ratio = (times[i]! - times[i - 1]!) / (times[i - 1]! - times[i - 2]!);
    assert.ok(ratio > 1.8 && ratio < 2.2, times.join());
  }
});

test("SACK has only the holes sent again", async () => {
  const raw = new Raw();
  const { stream, say, hear, iss } = await open(raw, { options: [2, 4, 0, 100, 4, 2, 1, 1] });
  stream.write(Array.from("abcdefgh", (letter) => letter.repeat(100)).join(""));
  assert.equal((await hear()).length, 8);
  const block = (from: number, to: number) => {
    const options = [1, 1, 5, 10];
    pushWord(options, iss + from);
    pushWord(options, iss + to);
    return options;
  };
  // b and d are lost.
  say(1, { acks: 101, options: block(201, 301) });
  say(1, { acks: 101, options: block(401, 501) });
  say(1, { acks: 101, options: block(401, 601) });
  say(1, { acks: 101, options: block(401, 801) });
  assert.deepEqual(await hear(), [`101 ACK 1 "${"b".repeat(100)}"`, `301 ACK 1 "${"d".repeat(100)}"`]);
  say(1, { acks: 801 });
  assert.deepEqual(await hear(), []);
});

test("sequence numbers wrap, ours and theirs", async () => {
  const raw = new Raw();
  raw.stack.listen(80, () => {}).close();
  const probe = raw.stack.listen(80, () => {});
  raw.send({ seq: 1, flags: SYN });
  const [first] = await raw.take();
  assert.ok(first);
  raw.send({ seq: 2, ack: first.seq + 1, flags: RST });
  probe.close();
  // Numbers grow by 250 each millisecond: wait until the next connection begins just below the wrap.
  const left = (-3_000 - first.seq) >>> 0;
  raw.clock.advance(Math.ceil(left / 250));
  const { stream, say, iss, irs } = await open(raw, { irs: -2 });
  assert.ok(iss < 0 && iss > -3_100);
  let text = "";
  stream.on("data", (chunk) => {
    text += chunk;
  });
  say(1, { data: "abcdef" });
  stream.write("0123456789".repeat(1_000));
  let back = "";
  for (let i = 0; i < 30; i++) {
    for (const s of await raw.take()) {
      assert.equal(since(s.seq, iss), 1 + back.length);
      back += dataOf(s);
    }
    say(7, { acks: 1 + back.length });
  }
  assert.equal(text, "abcdef");
  assert.equal(back, "0123456789".repeat(1_000));
  assert.ok(((iss + 10_000) | 0) > 0 && irs < 0);
});

test("old timestamps are refused, an unanswered half of them is not asked for", async () => {
  const raw = new Raw();
  const stamp = (value: number) => {
    const options = [1, 1, 8, 10];
    pushWord(options, value);
    pushWord(options, 0);
    return options;
  };
  const { stream, say, hear } = await open(raw, { options: stamp(1_000) }).catch(async () => {
    // With timestamps every segment must carry them: shake hands by hand.
    return handshake(raw, stamp);
  });
  let text = "";
  stream.on("data", (chunk) => {
    text += chunk;
  });
  say(1, { data: "new", options: stamp(2_000) });
  raw.clock.advance(50);
  assert.deepEqual(await hear(), ["1 ACK 4"]);
  say(4, { data: "old", options: stamp(1_999) });
  assert.deepEqual(await hear(), ["1 ACK 4"]);
  say(4, { data: "bare" });
  assert.deepEqual(await hear(), []);
  assert.equal(text, "new");
});

async function handshake(raw: Raw, stamp: (value: number) => number[]) {
  raw.out.splice(0);
  let stream: TcpStream | undefined;
  raw.stack.close();
  const fresh = new Raw();
  fresh.stack.listen(80, (made) => {
    stream = made;
  });
  fresh.send({ seq: 1_000, flags: SYN, options: stamp(1_000) });
  const [answer] = await fresh.take();
  assert.ok(answer);
  fresh.send({ seq: 1_001, ack: answer.seq + 1, options: stamp(1_001) });
  await fresh.take();
  assert.ok(stream);
  Object.assign(raw, { clock: fresh.clock });
  const say = (at: number, fields: Partial<Parameters<Raw["send"]>[0]>) =>
    fresh.send({ seq: 1_000 + at, ack: answer.seq + 1, ...fields });
  return { stream, say, hear: async () => lines(await fresh.take(), answer.seq, 1_000) };
}

test("an echo request is answered with its own data; an ICMPv6 error ends an attempt to connect", async () => {
  const raw = new Raw();
  const sent: Uint8Array[] = [];
  const { stack } = raw;
  const icmp = (type: number, body: Uint8Array) => {
    const packet = Buffer.alloc(44 + body.length);
    packet[40] = type;
    packet.set(body, 44);
    writeIPv6(packet, 58, parseIP("fd00::b"), parseIP("fd00::a"));
    packet.writeUInt16BE(upperChecksum(packet, 40, packet.length, 58), 42);
    return packet;
  };
  raw.tap = (packet) => sent.push(packet);
  stack.input(icmp(128, Buffer.from("\x12\x34\x00\x01some data", "latin1")));
  assert.equal(sent.length, 1);
  const reply = Buffer.from(sent[0] ?? []);
  assert.equal(reply[40], 129);
  assert.equal(reply.subarray(44).toString("latin1"), "\x12\x34\x00\x01some data");
  assert.equal(upperChecksum(reply, 40, reply.length, 58), 0);
  assert.deepEqual([...reply.subarray(24, 40)], [...parseIP("fd00::b")]);

  const connecting = stack.connect("fd00::b", 9);
  connecting.catch(() => {});
  const syn = sent[1];
  assert.ok(syn);
  const wrong = Buffer.from(syn);
  wrong.writeUInt32BE(12_345, 44);
  stack.input(icmp(1, Buffer.concat([Buffer.alloc(4), wrong])));
  assert.equal(stack.size, 1, "the error is about a segment that we never sent");
  stack.input(icmp(1, Buffer.concat([Buffer.alloc(4), syn])));
  await assert.rejects(connecting, { code: "unavailable", message: "[fd00::b]:9 is unreachable" });
  assert.equal(stack.size, 0);
});

test("two that call one another at once meet", async () => {
  const raw = new Raw();
  const connecting = raw.stack.connect("fd00::b", 4000);
  const [syn] = await raw.take();
  assert.ok(syn);
  const ports = { localPort: 4000, remotePort: syn.sourcePort };
  raw.send({ seq: 500, flags: SYN }, ports);
  const [both] = await raw.take();
  assert.equal(both?.flags, SYN | ACK);
  assert.equal(both?.seq, syn.seq);
  raw.send({ seq: 500, ack: syn.seq + 1, flags: SYN | ACK }, ports);
  const stream = await connecting;
  let text = "";
  stream.on("data", (chunk) => {
    text += chunk;
  });
  raw.send({ seq: 501, ack: syn.seq + 1, data: "hi" }, ports);
  await raw.take();
  assert.equal(text, "hi");
});
