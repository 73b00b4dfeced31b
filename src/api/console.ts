import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";

/** A file of the console, in memory: there are few and they are small. */
interface Asset {
  readonly body: Buffer;
  readonly type: string;
  readonly etag: string;
  readonly cache: string;
}

/** What a page may do: its own scripts and calls, nothing from elsewhere. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
  ".json": "application/json",
};

/** An answer of the console. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

/** The console's files. Reads them once; a directory that is not there makes every answer say how to build it. */
export class Console {
  readonly #assets = new Map<string, Asset>();

  constructor(directory: string) {
    let names: string[] = [];
    try {
      names = readdirSync(directory, { recursive: true, encoding: "utf8" });
    } catch {
      // Said by the answer below.
    }
    for (const name of names) {
      const type = types[extname(name)];
      if (!type) continue;
      const body = readFileSync(join(directory, name));
      this.#assets.set(`/${name}`, {
        body,
        type,
        etag: `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`,
        cache: name.startsWith("assets/") ? "public, max-age=31536000, immutable" : "no-cache",
      });
    }
  }

  /** Pages are routed in the browser: whatever is no file is the index. */
  answer(method: string, path: string, ifNoneMatch: string | undefined): Answer {
    if (method !== "GET" && method !== "HEAD") return { status: 405, headers: { allow: "GET, HEAD" } };
    const asset = this.#assets.get(path) ?? (extname(path) === "" ? this.#assets.get("/index.html") : undefined);
    if (!asset) {
      const missing =
        this.#assets.size === 0 ? "the console is not built: run ./ichor up, or npm run build:web\n" : "not found\n";
      return { status: 404, headers: { "content-type": "text/plain; charset=utf-8" }, body: Buffer.from(missing) };
    }
    const headers = {
      "content-type": asset.type,
      "cache-control": asset.cache,
      etag: asset.etag,
      "content-security-policy": policy,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cross-origin-opener-policy": "same-origin",
    };
    if (ifNoneMatch === asset.etag) return { status: 304, headers };
    return { status: 200, headers, ...(method === "GET" ? { body: asset.body } : {}) };
  }
}
