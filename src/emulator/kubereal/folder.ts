import { constants } from "node:fs";
import { access, mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { IchorError } from "#lib/errors.ts";
import type { Programs } from "./control-plane.ts";

const prefix = "ichor-emulated-kubernetes-";

/** Where the clusters' etcds keep their data: below the emulator's own folder, or a temporary one that goes with the emulator. */
export class KubernetesFolder {
  readonly path: string;
  readonly #temporary: boolean;

  private constructor(path: string, temporary: boolean) {
    this.path = path;
    this.#temporary = temporary;
  }

  /** Checks the programs and makes the folder. Throws `invalid_argument` for a path that is not a program. */
  static async open(programs: Programs, stateDir: string | undefined): Promise<KubernetesFolder> {
    await runnable("kube-apiserver", programs.apiServer);
    await runnable("etcd", programs.etcd);
    if (stateDir) {
      const path = resolve(stateDir, "kubernetes");
      await mkdir(path, { recursive: true, mode: 0o700 });
      return new KubernetesFolder(path, false);
    }
    await sweep();
    return new KubernetesFolder(await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`)), true);
  }

  async close(): Promise<void> {
    if (this.#temporary) await rm(this.path, { recursive: true, force: true });
  }
}

async function runnable(name: string, path: string): Promise<void> {
  const usable = await access(path, constants.X_OK).then(
    async () => (await stat(path)).isFile(),
    () => false,
  );
  if (!usable) throw new IchorError("invalid_argument", `${name}: "${path}" is not a program that can be run here`);
}

/** Removes what emulators left that were killed: their folders are named by their process. */
async function sweep(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(prefix)) continue;
    const pid = Number.parseInt(name.slice(prefix.length), 10);
    if (!isRunning(pid)) await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {});
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
