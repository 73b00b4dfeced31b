import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IchorError } from "#lib/errors.ts";
import { parseApiUrl, parseKernelArguments } from "./arguments.ts";

test("a SideroLink API URL as the plane prints it", () => {
  assert.deepEqual(parseApiUrl("grpc://plane.example:8090?jointoken=a%2Bb&grpc_tunnel=true"), {
    authority: "plane.example:8090",
    tls: false,
    token: "a+b",
    tunnel: true,
  });
  assert.deepEqual(parseApiUrl("https://plane.example?jointoken="), {
    authority: "plane.example:443",
    tls: true,
    token: undefined,
    tunnel: false,
  });
  assert.equal(parseApiUrl("[fd00::1]:8090").authority, "[fd00::1]:8090");
});

test("a SideroLink API URL that leads nowhere is refused without its token", () => {
  for (const text of [
    "",
    "grpc://",
    "grpc://:8090?jointoken=hush",
    "plane.example?jointoken=hush",
    "grpc://[fd00::1?jointoken=hush",
  ])
    assert.throws(
      () => parseApiUrl(text),
      (error) => error instanceof IchorError && error.code === "invalid_argument" && !/hush/.test(error.message),
    );
});

test("any text is a URL or refused", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.webUrl({ withQueryParameters: true }),
    fc.stringMatching(/^(grpc|https|x):\/\/[^ ]{0,30}$/),
  );
  fc.assert(
    fc.property(text, (url) => {
      try {
        assert.match(parseApiUrl(url).authority, /^.+:\d{1,5}$/);
      } catch (error) {
        assert.ok(error instanceof IchorError && error.code === "invalid_argument", String(error));
      }
    }),
  );
});

test("kernel arguments: the last one wins, sinks add up, the rest is kept", () => {
  const line = `console=tty0 siderolink.api=grpc://a:1 talos.logging.kernel=tcp://[::1]:1
    talos.logging.kernel=tcp://[::1]:2 talos.events.sink=[::1]:3 siderolink.api=grpc://b:2 quiet\n`;
  assert.deepEqual(parseKernelArguments(line), {
    siderolink: "grpc://b:2",
    eventSink: "[::1]:3",
    kmsg: ["tcp://[::1]:1", "tcp://[::1]:2"],
    rest: ["console=tty0", "quiet"],
  });
});

test("any text is a kernel command line, and no argument is lost", () => {
  const own = fc.constantFrom("siderolink.api=", "talos.events.sink=", "talos.logging.kernel=");
  const argument = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.tuple(own, fc.string()).map(([name, value]) => name + value),
  );
  fc.assert(
    fc.property(fc.array(argument), (list) => {
      const parts = list.join(" ").split(/\s+/).filter(Boolean);
      const { rest, kmsg } = parseKernelArguments(list.join(" "));
      const single = parts.filter((part) => /^(siderolink\.api|talos\.events\.sink)=/.test(part)).length;
      assert.equal(rest.length + kmsg.length + single, parts.length);
    }),
  );
});
