import assert from "node:assert/strict";
import { connect } from "node:http2";
import { test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ProvisionService } from "#gen/sidero/link/link_pb.ts";
import { listenForMachines } from "./machine-listener.ts";

test("no authority that somebody on the network sends ends the process", async (t) => {
  const listener = await listenForMachines({ host: "127.0.0.1", port: 0 }, (router) => {
    router.service(ProvisionService, {
      provision: () => {
        throw new ConnectError("heard", Code.PermissionDenied);
      },
    });
  });
  t.after(() => listener.close());
  const url = `http://127.0.0.1:${listener.port}`;
  const session = connect(url);
  t.after(() => session.destroy());
  for (const authority of ["fdae::1:8090", "::", "a b", "[", "%zz", "x:99999"]) {
    const stream = session.request({
      ":authority": authority,
      ":method": "POST",
      ":path": "/sidero.link.ProvisionService/Provision",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.end(Buffer.alloc(5));
    // What Node itself refuses, it ends with an error of the stream.
    const status = await new Promise((resolve) => {
      stream.on("error", resolve);
      stream.on("response", (headers) => headers["grpc-status"] && resolve(headers["grpc-status"]));
      stream.on("trailers", (headers) => resolve(headers["grpc-status"]));
      stream.resume();
    });
    if (!(status instanceof Error)) assert.equal(Number(status), Code.PermissionDenied, authority);
  }
  const client = createClient(ProvisionService, createGrpcTransport({ baseUrl: url }));
  await assert.rejects(client.provision({}, { timeoutMs: 10_000 }), { rawMessage: "heard" });
});
