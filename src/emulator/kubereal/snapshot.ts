import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { createInterface } from "node:readline";
import type { Files } from "./files.ts";

/** A snapshot of etcd through its JSON gateway: pieces of the database file, and its SHA-256 at the end. */
export async function* readSnapshot(files: Files, port: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  const [ca, cert, key] = await Promise.all(
    ["etcd-ca.crt", "etcd-client.crt", "etcd-client.key"].map((name) => readFile(files.path(name))),
  );
  const call = request({
    host: "127.0.0.1",
    port,
    path: "/v3/maintenance/snapshot",
    method: "POST",
    headers: { "content-type": "application/json" },
    agent: false,
    ...(ca ? { ca } : {}),
    ...(cert ? { cert } : {}),
    ...(key ? { key } : {}),
    signal,
  });
  call.end("{}");
  const [answer] = (await once(call, "response")) as [IncomingMessage];
  if (answer.statusCode !== 200) throw new Error(`etcd answered ${answer.statusCode} to a snapshot`);
  for await (const line of createInterface({ input: answer })) {
    if (line === "") continue;
    const { result, error } = JSON.parse(line) as { result?: { blob?: string }; error?: { message?: string } };
    if (error) throw new Error(`etcd: ${error.message ?? "snapshot failed"}`);
    if (result?.blob) yield Buffer.from(result.blob, "base64");
  }
}
