import { constants } from "node:os";
import type { TLSSocket } from "node:tls";

interface StreamWrap {
  doWrite(request: unknown, buffers: readonly Uint8Array[]): number;
}

/**
 * For TLS over a stream that is no socket of the kernel's. There Node (26.10) asserts that nothing is written while the end of the stream is
 * under way, and its own HTTP/2 does write then, when a session goes at a bad moment: the whole process would end. Such a write fails instead,
 * which closes this one connection. Answers the same socket.
 */
export function survivable(socket: TLSSocket): TLSSocket {
  const wrap = (socket as unknown as { _handle?: { _parentWrap?: Partial<StreamWrap> } })._handle?._parentWrap;
  const doWrite = wrap?.doWrite;
  if (wrap && doWrite) {
    wrap.doWrite = (request, buffers) => {
      try {
        return doWrite.call(wrap, request, buffers);
      } catch {
        return -constants.errno.EPIPE;
      }
    };
  }
  return socket;
}
