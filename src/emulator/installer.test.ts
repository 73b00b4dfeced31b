import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IchorError } from "#lib/errors.ts";
import { parseImage } from "./installer.ts";
import { release } from "./versions.ts";

const schematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";

test("image references", () => {
  assert.deepEqual(parseImage("ghcr.io/siderolabs/installer:v1.13.9"), {
    repository: "ghcr.io/siderolabs/installer",
    tag: "v1.13.9",
    schematic: "",
  });
  assert.equal(parseImage(`factory.talos.dev/metal-installer/${schematic}:v1.13.9`).schematic, schematic);
  assert.equal(parseImage(`localhost:5000/x@sha256:${"0".repeat(64)}`).tag, "latest");
  for (const bad of ["", "installer", "UPPER/x:1", "a/b:", "a/b:c d", "a//b", "a/b@sha256:1"])
    assert.throws(() => parseImage(bad), { code: "invalid_argument" }, bad);
});

test("any text is a reference and a version, or refused", () => {
  const piece = fc.constantFrom("a", "/", ":", "@sha256:", ".", "-", "v1.13.9", "0".repeat(64), "A", " ");
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(piece, { maxLength: 40 }).map((list) => list.join("")),
  );
  fc.assert(
    fc.property(text, (reference) => {
      for (const read of [parseImage, release])
        try {
          read(reference);
        } catch (error) {
          assert.ok(error instanceof IchorError && error.code === "invalid_argument", String(error));
        }
    }),
  );
});
