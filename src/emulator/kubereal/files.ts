import { randomBytes } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isIP } from "#emulator/apid/certificates.ts";
import type { ConfigView } from "#emulator/config/view.ts";
import { issue, issueFor, type Leaf, newKey, type Pair } from "#emulator/pki.ts";

const day = 86_400_000;

/** Ports on loopback of one cluster's programs. */
export interface Ports {
  readonly etcd: number;
  readonly etcdPeer: number;
  readonly apiServer: number;
}

/** The folder of one cluster's etcd and kube-apiserver: keys, certificates, data. */
export class Files {
  readonly folder: string;
  readonly #config: ConfigView;
  readonly #now: () => number;
  readonly #servingKey = newKey("p256").pem;

  constructor(folder: string, config: ConfigView, now: () => number) {
    this.folder = folder;
    this.#config = config;
    this.#now = now;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Issues all that the programs need from the authorities of the machine configuration. */
  async prepare(names: readonly string[]): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const { etcd, kubernetes, aggregator, serviceAccountKey } = this.#config;
    const local = { dns: ["localhost"], ips: ["127.0.0.1", "::1"] };
    const member = await issue(etcd, this.#leaf({ commonName: "etcd", server: true, client: true, ...local }));
    const client = await issue(etcd, this.#leaf({ commonName: "kube-apiserver-etcd-client", client: true }));
    const proxy = aggregator.key
      ? await issue(aggregator, this.#leaf({ commonName: "front-proxy-client", client: true }))
      : undefined;
    await Promise.all([
      this.#pair("etcd", member),
      this.#pair("etcd-client", client),
      ...(proxy ? [this.#pair("front-proxy", proxy), this.#write("aggregator-ca.crt", aggregator.crt)] : []),
      this.#write("etcd-ca.crt", etcd.crt),
      this.#write("ca.crt", kubernetes.crt),
      this.#write("service-account.key", serviceAccountKey),
      this.#write("serving.key", this.#servingKey),
    ]);
    await this.writeServing(names);
  }

  /** The certificate that the API server shows, for all the names of its control planes; it notices a new one by itself. Answers it. */
  async writeServing(names: readonly string[]): Promise<string> {
    const leaf = this.#leaf({
      commonName: "kube-apiserver",
      organizations: ["kube-master"],
      server: true,
      dns: names.filter((name) => !isIP(name)),
      ips: names.filter(isIP),
    });
    const crt = await issueFor(this.#config.kubernetes, leaf, this.#servingKey);
    await this.#write("serving.crt", crt);
    return crt;
  }

  /** A client certificate of the cluster's Kubernetes authority. */
  client(commonName: string, organization: string): Promise<Pair> {
    return issue(
      this.#config.kubernetes,
      this.#leaf({ commonName, organizations: [organization], client: true, validity: 365 * day }),
    );
  }

  etcdArguments({ etcd, etcdPeer }: Ports): string[] {
    const url = `https://127.0.0.1:${etcd}`;
    const peer = `https://127.0.0.1:${etcdPeer}`;
    return [
      "--name=emulated",
      `--data-dir=${this.path("etcd")}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=emulated=${peer}`,
      ...["", "peer-"].flatMap((kind) => [
        `--${kind}cert-file=${this.path("etcd.crt")}`,
        `--${kind}key-file=${this.path("etcd.key")}`,
        `--${kind}trusted-ca-file=${this.path("etcd-ca.crt")}`,
        `--${kind}client-cert-auth=true`,
      ]),
      // A killed process loses nothing by it; only a power cut of the whole host could.
      "--unsafe-no-fsync",
    ];
  }

  apiServerArguments({ etcd, apiServer }: Ports): string[] {
    const { endpoint, aggregator } = this.#config;
    return [
      `--etcd-servers=https://127.0.0.1:${etcd}`,
      `--etcd-cafile=${this.path("etcd-ca.crt")}`,
      `--etcd-certfile=${this.path("etcd-client.crt")}`,
      `--etcd-keyfile=${this.path("etcd-client.key")}`,
      "--bind-address=127.0.0.1",
      `--secure-port=${apiServer}`,
      // The address that it would publish is loopback, which it refuses to.
      "--endpoint-reconciler-type=none",
      `--client-ca-file=${this.path("ca.crt")}`,
      `--tls-cert-file=${this.path("serving.crt")}`,
      `--tls-private-key-file=${this.path("serving.key")}`,
      `--service-account-key-file=${this.path("service-account.key")}`,
      `--service-account-signing-key-file=${this.path("service-account.key")}`,
      `--service-account-issuer=${endpoint}`,
      `--api-audiences=${endpoint}`,
      "--service-cluster-ip-range=10.96.0.0/12",
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      "--enable-bootstrap-token-auth=true",
      "--allow-privileged=true",
      "--profiling=false",
      ...(aggregator.key
        ? [
            `--requestheader-client-ca-file=${this.path("aggregator-ca.crt")}`,
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            `--proxy-client-cert-file=${this.path("front-proxy.crt")}`,
            `--proxy-client-key-file=${this.path("front-proxy.key")}`,
          ]
        : []),
    ];
  }

  #leaf(leaf: Omit<Leaf, "notBefore" | "validity"> & { validity?: number }): Leaf {
    return { validity: 365 * day, ...leaf, notBefore: this.#now() - 60_000 };
  }
  async #pair(name: string, { crt, key }: Pair): Promise<void> {
    await Promise.all([this.#write(`${name}.crt`, crt), this.#write(`${name}.key`, key)]);
  }
  /** Whole or not at all: the API server reads its certificate again whenever the folder changes. */
  async #write(name: string, text: string): Promise<void> {
    const fresh = this.path(`.${name}.${randomBytes(4).toString("hex")}`);
    await writeFile(fresh, text, { mode: 0o600 });
    await rename(fresh, this.path(name));
  }
}
