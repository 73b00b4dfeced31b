// The stock clients that tests run against the plane. Each answers its path, or why it cannot be had here: give that to `t.skip`.
import { goTool } from "./build.ts";
import { type Client, kubernetesClient } from "./kubectl.ts";

export type { Client } from "./kubectl.ts";

export const kubectl = (): Client => kubernetesClient("kubectl");
export const helm = (): Client => kubernetesClient("helm");
/** Built from the Go module proxy: some minutes the first time. */
export const talosctl = (): Promise<Client> => goTool("talosctl");
