import { createHash, randomUUID } from "node:crypto";
import type { LinkStatusSpec } from "#gen/talos/resource/definitions/network/network_pb.ts";
import type { TalosResource } from "./cosi.ts";

/** Hex SHA-256 over the sorted addresses of the physical links (protocols.md 2.6); empty without any: it then never matches. */
export function fingerprintOf(links: readonly TalosResource<LinkStatusSpec>[]): string {
  const addresses = links
    .filter(
      ({ spec }) => spec.kind === "" && spec.hardwareAddr.length > 0 && spec.hardwareAddr.some((byte) => byte !== 0),
    )
    .map(({ spec }) => text(spec.permanentAddr.length > 0 ? spec.permanentAddr : spec.hardwareAddr))
    .sort();
  return addresses.length === 0 ? "" : createHash("sha256").update(addresses.join("")).digest("hex");
}

/** A new unique token, as META 16 holds it. */
export function uniqueToken(fingerprint: string): string {
  return JSON.stringify({ Fingerprint: fingerprint, Token: randomUUID() });
}

function text(address: Uint8Array): string {
  return Array.from(address, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
