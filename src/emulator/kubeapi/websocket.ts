import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

/** The server's end of a WebSocket (RFC 6455): binary messages both ways. */
export interface WebSocketEnd {
  send(message: Uint8Array): void;
  close(code?: number): void;
}

const messageLimit = 1 << 20;
const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Accepts an upgrade with one of `protocols`, in order of preference; undefined when it is no proper one (answered with 400). */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocols: readonly string[],
  receive: (message: Buffer) => void,
  closed: () => void,
): { end: WebSocketEnd; protocol: string } | undefined {
  const key = request.headers["sec-websocket-key"];
  const offered = String(request.headers["sec-websocket-protocol"] ?? "")
    .split(",")
    .map((name) => name.trim());
  const protocol = protocols.find((name) => offered.includes(name));
  if (!key || !protocol || String(request.headers.upgrade).toLowerCase() !== "websocket") {
    socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    return undefined;
  }
  const accept = createHash("sha1")
    .update(key + guid)
    .digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\nsec-websocket-protocol: ${protocol}\r\n\r\n`,
  );
  const reader = new FrameReader();
  let open = true;
  const close = (code = 1000) => {
    if (!open) return;
    open = false;
    const body = Buffer.alloc(2);
    body.writeUInt16BE(code);
    socket.write(frame(8, body));
    socket.end();
  };
  const feed = (chunk: Buffer) => {
    if (!open) return;
    try {
      for (const { opcode, payload } of reader.push(chunk)) {
        if (opcode === 8) close();
        else if (opcode === 9) socket.write(frame(10, payload));
        else if (opcode === 1 || opcode === 2) receive(payload);
      }
    } catch {
      close(1002);
    }
  };
  socket.on("data", feed);
  socket.on("error", () => socket.destroy());
  socket.once("close", closed);
  if (head.length > 0) feed(head);
  return {
    protocol,
    end: {
      send(message) {
        if (open) socket.write(frame(2, message));
      },
      close,
    },
  };
}

/** Takes masked client frames out of a byte stream; joins fragments. Throws on what RFC 6455 forbids. */
export class FrameReader {
  #buffer = Buffer.alloc(0);
  #parts: Buffer[] = [];
  #opcode = 0;

  push(chunk: Buffer): { opcode: number; payload: Buffer }[] {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    const out: { opcode: number; payload: Buffer }[] = [];
    for (;;) {
      const taken = this.#take();
      if (!taken) return out;
      const { final, opcode, payload } = taken;
      if (opcode >= 8) {
        if (!final || payload.length > 125) throw new RangeError("malformed control frame");
        out.push({ opcode, payload });
        continue;
      }
      // A message begins with its kind and goes on without one; another begins only after its end.
      if ((opcode === 0) !== this.#parts.length > 0) throw new RangeError("malformed message");
      if (opcode !== 0) this.#opcode = opcode;
      else if (payload.length === 0 && !final) continue;
      this.#parts.push(payload);
      if (this.#parts.reduce((sum, part) => sum + part.length, 0) > messageLimit)
        throw new RangeError("message too large");
      if (final) {
        out.push({ opcode: this.#opcode, payload: Buffer.concat(this.#parts) });
        this.#parts = [];
      }
    }
  }

  #take(): { final: boolean; opcode: number; payload: Buffer } | undefined {
    const data = this.#buffer;
    if (data.length < 2) return undefined;
    const [first = 0, second = 0] = data;
    if ((first & 0x70) !== 0 || (second & 0x80) === 0) throw new RangeError("malformed frame");
    let length = second & 0x7f;
    let at = 2;
    if (length === 126) {
      if (data.length < 4) return undefined;
      length = data.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (data.length < 10) return undefined;
      const long = data.readBigUInt64BE(2);
      if (long > BigInt(messageLimit)) throw new RangeError("frame too large");
      length = Number(long);
      at = 10;
    }
    if (data.length < at + 4 + length) return undefined;
    const mask = data.subarray(at, at + 4);
    const payload = Buffer.from(data.subarray(at + 4, at + 4 + length));
    for (let index = 0; index < payload.length; index++) payload[index] = payload[index]! ^ mask[index & 3]!;
    this.#buffer = data.subarray(at + 4 + length);
    return { final: (first & 0x80) !== 0, opcode: first & 0x0f, payload };
  }
}

function frame(opcode: number, payload: Uint8Array): Buffer {
  const size = payload.length;
  const header = size < 126 ? Buffer.from([0x80 | opcode, size]) : size < 65_536 ? Buffer.alloc(4) : Buffer.alloc(10);
  if (header.length > 2) {
    header[0] = 0x80 | opcode;
    header[1] = header.length === 4 ? 126 : 127;
    if (header.length === 4) header.writeUInt16BE(size, 2);
    else header.writeBigUInt64BE(BigInt(size), 2);
  }
  return Buffer.concat([header, payload]);
}
