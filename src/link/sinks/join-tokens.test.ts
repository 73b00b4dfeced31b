import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DefaultJoinTokenKind } from "#kinds/machine/default-join-token.ts";
import { TestLink, TestMachine } from "#link/testing.ts";
import { logsPort } from "./logs.ts";

let plane: TestLink;
before(async () => {
  plane = await TestLink.start();
});
after(() => plane.close());

test("the kernel's command line is kept without the join token, however it is written", async () => {
  const joinToken = (await plane.state.require(DefaultJoinTokenKind, "default")).spec.tokenId;
  const machine = new TestMachine();
  await machine.join(plane, { joinToken });
  const stream = await machine.connect(logsPort);
  const url = "siderolink.api=grpc://192.0.2.1:8090?jointoken=";
  const said = [
    { msg: `Command line: a=b ${url}${joinToken}&grpc_tunnel=true c=d`, seq: 1 },
    { msg: `Command line: a=b ${url}${joinToken} c=d`, seq: 2 },
    { msg: `siderolink.api=grpc://192.0.2.1:8090?grpc_tunnel=true&jointoken=v1:${joinToken}==`, seq: 3 },
    { msg: `in a query of a query: jointoken%3D${joinToken}`, seq: 4 },
  ].map((line) => JSON.stringify(line));
  // As Go writes JSON.
  const lines = [...said, said[0]!.replace("&", "\\u0026"), '{"msg":"last"}'];
  stream.write(lines.map((line) => `${line}\n`).join(""));
  const kept: string[] = [];
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(20_000)]);
  for await (const line of plane.link.logs.follow(machine.uuid, -1, signal)) {
    kept.push(line);
    if (line === lines.at(-1)) stop.abort();
  }
  assert.deepEqual(
    kept,
    lines.map((line) => line.replace(new RegExp(`(v1:)?${joinToken}(==)?`), "******")),
  );
  assert.ok(!kept.join().includes(joinToken));
  stream.destroy();
  machine.close();
});
