import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Timer } from "#lib/clock.ts";
import { IchorError } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { SavedCluster } from "./cluster.ts";
import { isMapping } from "./config/documents.ts";
import { blankDisks, type DiskState } from "./disk.ts";

interface Content {
  readonly version: 1;
  readonly machines: Record<string, DiskState>;
  readonly clusters: readonly SavedCluster[];
}

/** Keeps machines' disks and clusters' content in one file of a folder; written at most once a second, and at the end. */
export class StateDirectory {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #content: Content;
  #timer: Timer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #saveClusters: () => readonly SavedCluster[];

  private constructor(path: string, content: Content, clock: Clock, log: Logger) {
    this.#path = path;
    this.#content = content;
    this.#clock = clock;
    this.#log = log;
    this.#saveClusters = () => content.clusters;
  }
  /** Opens or makes it. Throws `data_loss` when the file is not ours. */
  static async open(folder: string, clock: Clock, log: Logger): Promise<StateDirectory> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, "emulator.json");
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    if (text === undefined) return new StateDirectory(path, { version: 1, machines: {}, clusters: [] }, clock, log);
    try {
      const content = JSON.parse(text) as Content;
      const { version, machines, clusters } = content;
      if (version !== 1 || !isMapping(machines) || !Array.isArray(clusters)) throw new Error("unknown version");
      return new StateDirectory(path, content, clock, log);
    } catch (cause) {
      throw new IchorError("data_loss", `${path} cannot be read as the emulator's state: remove it to start anew`, {
        cause,
      });
    }
  }
  get clusters(): readonly SavedCluster[] {
    return this.#content.clusters;
  }
  /** The disks of a machine; changed in place by it. */
  machine(uuid: string): DiskState {
    this.#content.machines[uuid] ??= blankDisks();
    return this.#content.machines[uuid];
  }
  /** Where to take the clusters from when saving. */
  saveClusters(save: () => readonly SavedCluster[]): void {
    this.#saveClusters = save;
  }
  /** Something changed. */
  dirty(): void {
    this.#timer ??= this.#clock.after(1000, () => {
      this.#timer = undefined;
      this.#write();
    });
  }
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#write();
    await this.#writing;
  }
  #write(): void {
    const text = JSON.stringify({ ...this.#content, clusters: this.#saveClusters() });
    this.#writing = this.#writing
      .then(async () => {
        await writeFile(`${this.#path}.new`, text, { mode: 0o600 });
        await rename(`${this.#path}.new`, this.#path);
      })
      .catch((error) => this.#log.error({ error }, "cannot save the emulator's state"));
  }
}
