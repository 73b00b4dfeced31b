import { parentPort, workerData } from "node:worker_threads";
import { codeOf, messageOf } from "#lib/errors.ts";
import { type Head, type Rows, SqliteFile } from "./sqlite-file.ts";
import type { Answer, Request } from "./sqlite-thread.ts";

// The thread that owns the database file; see sqlite-thread.ts for the other end. It answers each request in order.

const port = parentPort!;
const answer = (message: Answer, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

function failed(error: unknown): Answer {
  const cause = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : undefined;
  return { kind: "failed", code: codeOf(error), message: messageOf(error), cause };
}

function open(): SqliteFile | undefined {
  try {
    const file = new SqliteFile((workerData as { path: string }).path);
    for (const { rows, specs } of file.load()) answer({ kind: "rows", rows, specs }, [specs.buffer as ArrayBuffer]);
    answer({ kind: "ready", head: file.head() });
    return file;
  } catch (error) {
    answer(failed(error));
    port.close();
    return undefined;
  }
}

function commit(file: SqliteFile, rows: Rows, head: Head): Answer {
  try {
    file.commit(rows, head);
    return { kind: "done" };
  } catch (error) {
    return failed(error);
  }
}

const file = open();
if (file) {
  port.on("message", (request: Request) => {
    if (request.kind === "commit") return answer(commit(file, request, request.head));
    file.close();
    answer({ kind: "done" });
    port.close();
  });
}
