import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { parseAllDocuments } from "yaml";
import { LinkStatusSpecSchema } from "#gen/talos/resource/definitions/network/network_pb.ts";
import { codeOf, IchorError } from "#lib/errors.ts";
import { contractOf, incompatible, knownVersions, supportedTalos } from "./compatibility.ts";
import { fingerprintOf, uniqueToken } from "./identity.ts";
import { chooseInstallDisk, type Disk, emptySchematic, installImage } from "./install.ts";
import { joinConfig, joinDocuments, kernelArgs, siderolinkUrl } from "./kernelargs.ts";
import { atLeast, parseVersion } from "./version.ts";

// What is computed from plain values: versions, images, disks, kernel arguments, fingerprints.

const part = fc.nat(9999);
const pre = fc.oneof(fc.constant(""), fc.stringMatching(/^[0-9A-Za-z.-]{1,20}$/));

test("versions: read as they are written, with or without v", () => {
  fc.assert(
    fc.property(part, part, part, pre, fc.boolean(), (major, minor, patch, suffix, v) => {
      const text = `${v ? "v" : ""}${major}.${minor}.${patch}${suffix && `-${suffix}`}`;
      assert.deepEqual(parseVersion(text), { major, minor, patch, pre: suffix });
      for (const [a, b] of [
        [major, minor],
        [major, minor + 1],
        [major + 1, 0],
        [major - 1, minor + 5],
      ] as const)
        assert.equal(atLeast(text, a, b), major > a || (major === a && minor >= b));
    }),
  );
});

test("versions: anything else is refused, with a bounded word of it", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^v?[\d.]{0,20}-?[\w.]*$/)), (text) => {
      try {
        const { major, minor, patch } = parseVersion(text);
        assert.ok([major, minor, patch].every((value) => Number.isInteger(value) && value >= 0 && value <= 9999));
      } catch (error) {
        assert.ok(error instanceof IchorError && error.code === "invalid_argument");
        assert.ok(error.message.length < 200);
      }
    }),
    { numRuns: 500 },
  );
  for (const text of ["1.13.0\n", " 1.13.0", "1.13", "1.13.0.1", "1.13.0-", "01.13.00000", "1.13.0+k3s1", "١.١.١", ""])
    assert.throws(() => parseVersion(text), { code: "invalid_argument" }, text);
  assert.throws(() => parseVersion("x".repeat(100_000)), { code: "invalid_argument" });
});

test("compatibility: every pair that is offered goes together, and its neighbours outside do not", () => {
  const offered = knownVersions();
  assert.deepEqual([...new Set(offered.map(({ talos }) => talos.split(".").slice(0, 2).join(".")))], supportedTalos);
  for (const { talos, kubernetes } of offered) {
    for (const version of kubernetes) {
      assert.equal(incompatible(talos, version), undefined, `${talos} with ${version}`);
      assert.equal(incompatible(`v${talos}`, `v${version}`), undefined);
    }
    const minors = kubernetes.map((version) => parseVersion(version).minor);
    for (const minor of [Math.min(...minors) - 1, Math.max(...minors) + 1])
      assert.match(incompatible(talos, `1.${minor}.0`) ?? "", /^Talos 1\.\d+ runs Kubernetes 1\.\d+ to 1\.\d+, not /);
    assert.ok(incompatible(talos, "2.34.0"));
    assert.equal(contractOf(talos), `1.${parseVersion(talos).minor}`);
  }
  for (const talos of ["1.9.0", "1.10.0", "1.14.0", "2.13.0", "0.13.0"]) {
    assert.match(incompatible(talos, "1.34.0") ?? "", /not supported/);
    assert.throws(() => contractOf(talos), { code: "unimplemented" });
  }
});

test("the protocol's matrix, as numbers", () => {
  const range = (talos: string) => {
    const fits = Array.from({ length: 60 }, (_, minor) => minor).filter(
      (minor) => !incompatible(talos, `1.${minor}.0`),
    );
    return [fits[0], fits.at(-1)];
  };
  assert.deepEqual(
    [range("1.11.6"), range("1.12.11"), range("1.13.9")],
    [
      [29, 34],
      [30, 35],
      [31, 36],
    ],
  );
});

const disk = fc.record(
  {
    path: fc.integer({ min: 0, max: 30 }).map((index) => `/dev/disk${index}`),
    size: fc.oneof(fc.nat(20_000_000_000), fc.constantFrom(5e9, 5e9 + 1)),
    readonly: fc.boolean(),
    cdrom: fc.boolean(),
    transport: fc.constantFrom("usb", "nvme", "sata", ""),
    composite: fc.boolean(),
    systemDisk: fc.boolean(),
  },
  { noNullPrototype: true },
);

test("the install disk: the system disk, else the wanted, else the best by a plain search", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(disk, { selector: ({ path }) => path, maxLength: 8 }),
      fc.option(
        fc.integer({ min: 0, max: 30 }).map((index) => `/dev/disk${index}`),
        { nil: undefined },
      ),
      (disks, wanted) => {
        const better = (a: Disk, b: Disk) => {
          if ((a.transport === "usb") !== (b.transport === "usb")) return b.transport === "usb";
          return a.size !== b.size ? a.size < b.size : a.path < b.path;
        };
        let expected = disks.find(({ systemDisk }) => systemDisk)?.path;
        if (expected === undefined && wanted) expected = disks.find(({ path }) => path === wanted)?.path;
        else if (expected === undefined) {
          const able = disks.filter((one) => !one.readonly && !one.cdrom && !one.composite && one.size > 5e9);
          expected = able.find((one) => able.every((other) => other === one || better(one, other)))?.path;
        }
        if (expected !== undefined) assert.equal(chooseInstallDisk(disks, wanted), expected);
        else
          assert.throws(
            () => chooseInstallDisk(disks, wanted),
            (error: unknown) => {
              assert.ok(error instanceof IchorError);
              assert.equal(codeOf(error), "failed_precondition");
              for (const { path } of disks) assert.ok(error.message.includes(path), "it says what it looked at");
              return true;
            },
          );
      },
    ),
    { numRuns: 500 },
  );
});

test("installer images", () => {
  const image = {
    factory: "https://factory.example/",
    schematic: "abc",
    talosVersion: "1.13.0",
    platform: "",
    secureBoot: false,
  };
  assert.equal(installImage(image), "factory.example/metal-installer/abc:v1.13.0");
  assert.equal(
    installImage({
      ...image,
      factory: "factory.example:5000",
      talosVersion: "v1.13.0",
      platform: "aws",
      secureBoot: true,
    }),
    "factory.example:5000/aws-installer-secureboot/abc:v1.13.0",
  );
  assert.equal(installImage({ ...image, schematic: "" }), "ghcr.io/siderolabs/installer:v1.13.0");
  assert.equal(createHash("sha256").update("customization: {}\n").digest("hex"), emptySchematic);
});

const target = fc.record(
  {
    apiUrl: fc.constantFrom("grpc://192.0.2.1:8090", "https://plane.example", "grpc://[2001:db8::1]:8090/"),
    joinToken: fc.oneof(
      fc.string({ minLength: 1 }),
      fc.base64String({ minLength: 4 }).map((text) => `v1:${text}`),
    ),
    tunnel: fc.boolean(),
    planeAddress: fc.constant("fdae:41e4:649b:9303::1"),
    eventsPort: fc.constant(8090),
    logsPort: fc.constant(8092),
  },
  { noNullPrototype: true },
);

test("kernel arguments: what a machine reads of them is what was meant, and no argument falls apart", () => {
  fc.assert(
    fc.property(target, (meant) => {
      const args = kernelArgs(meant);
      // The kernel splits at white space and takes quotes away.
      assert.deepEqual(args.join(" ").split(/[\s"]+/), args);
      for (const arg of args) assert.match(arg, /^[\x21-\x7e]+$/);
      const [api, events, logs] = args.map((arg) => arg.slice(arg.indexOf("=") + 1));
      const url = new URL(api!);
      assert.equal(url.searchParams.get("jointoken"), meant.joinToken.toWellFormed());
      assert.equal(url.searchParams.get("grpc_tunnel"), meant.tunnel ? "true" : null);
      assert.equal(`${url.protocol}//${url.host}`, meant.apiUrl.replace(/\/$/, ""));
      assert.equal(events, "[fdae:41e4:649b:9303::1]:8090");
      assert.equal(logs, "tcp://[fdae:41e4:649b:9303::1]:8092");
    }),
  );
});

test("join documents say the same as the arguments, and survive being written", () => {
  fc.assert(
    fc.property(target, (meant) => {
      const documents = parseAllDocuments(joinConfig(meant)).map((document) => document.toJS() as unknown);
      assert.deepEqual(documents, joinDocuments(meant));
      assert.deepEqual(documents, [
        { apiVersion: "v1alpha1", kind: "SideroLinkConfig", apiUrl: siderolinkUrl(meant) },
        { apiVersion: "v1alpha1", kind: "EventSinkConfig", endpoint: "[fdae:41e4:649b:9303::1]:8090" },
        {
          apiVersion: "v1alpha1",
          kind: "KmsgLogConfig",
          name: "omni-kmsg",
          url: "tcp://[fdae:41e4:649b:9303::1]:8092",
        },
      ]);
      assert.deepEqual(joinDocuments(meant, false), documents.slice(1));
    }),
  );
});

test("fingerprints: of physical links alone, whatever their order; nothing of nothing", () => {
  const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).filter((bytes) => bytes.some((byte) => byte > 0));
  const link = fc.record({
    hardwareAddr: mac,
    permanentAddr: fc.option(mac, { nil: new Uint8Array() }),
    kind: fc.constantFrom("", "bond", "vlan"),
  });
  const resource = (fields: { hardwareAddr: Uint8Array; permanentAddr: Uint8Array; kind: string }) =>
    ({ spec: create(LinkStatusSpecSchema, fields) }) as Parameters<typeof fingerprintOf>[0][number];
  fc.assert(
    fc.property(fc.array(link, { maxLength: 6 }), (links) => {
      const physical = links.filter(({ kind }) => kind === "");
      const texts = physical.map(({ hardwareAddr, permanentAddr }) =>
        Buffer.from(permanentAddr.length > 0 ? permanentAddr : hardwareAddr)
          .toString("hex")
          .replaceAll(/(..)(?!$)/g, "$1:"),
      );
      const expected = texts.length === 0 ? "" : createHash("sha256").update(texts.toSorted().join("")).digest("hex");
      assert.equal(fingerprintOf(links.map(resource)), expected);
      assert.equal(fingerprintOf(links.toReversed().map(resource)), expected);
    }),
  );
  const empty = resource({ hardwareAddr: new Uint8Array(6), permanentAddr: new Uint8Array(), kind: "" });
  assert.equal(fingerprintOf([empty]), "", "the loopback has no address");
  assert.equal(JSON.parse(uniqueToken("f")).Fingerprint, "f");
  assert.notEqual(uniqueToken("f"), uniqueToken("f"));
});
