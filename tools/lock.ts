// Run after every `npm install`: names in the lock the optional packages of other platforms that a partial mirror did not serve. Without
// them `npm ci` calls the lock out of step; npm itself skips them where the platform differs, and fetches them where it does not.
import { readFileSync, writeFileSync } from "node:fs";

interface Entry {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  optionalDependencies?: Record<string, string>;
}

const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as { packages: Record<string, Entry> };
const oses = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "sunos", "win32"];
const cpus = ["arm64", "armv7", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64", "wasm32"];

for (const [path, entry] of Object.entries(lock.packages)) {
  if (path === "") continue;
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const nested = `${path}/node_modules/${name}`;
    const top = `node_modules/${name}`;
    if (lock.packages[nested] || lock.packages[top] || !/^\d/.test(version)) continue;
    const words = name.split(/[/-]/);
    const os = oses.find((word) => words.includes(word));
    const cpu = cpus.find((word) => words.includes(word));
    if (!os || !cpu) continue;
    lock.packages[top] = {
      version,
      cpu: [cpu === "armv7" ? "arm" : cpu],
      ...(entry.dev ? { dev: true } : {}),
      optional: true,
      os: [os],
    };
  }
}
const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1));
writeFileSync("package-lock.json", `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`);
