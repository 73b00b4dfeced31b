import { createSecureContext, type SecureContext, connect as tlsConnect } from "node:tls";
import { createClient } from "@connectrpc/connect";
import type { ApidTls, Boot } from "#emulator/boot.ts";
import { grpcTo } from "#emulator/grpc.ts";
import { ports } from "#emulator/network.ts";
import { issue, newRequest, selfSigned } from "#emulator/pki.ts";
import { SecurityService } from "#gen/securityapi/securityapi_pb.ts";
import { sleep } from "#lib/abort.ts";
import { backoffDelay } from "#lib/backoff.ts";
import type { Timer } from "#lib/clock.ts";
import { messageOf } from "#lib/errors.ts";

const day = 86_400_000;
let shared: Promise<SecureContext> | undefined;

/** The TLS of maintenance. One certificate for the process: it identifies nobody, and thousands would cost memory. */
export function maintenanceContext(): Promise<SecureContext> {
  shared ??= selfSigned({
    commonName: "maintenance-service.talos.dev",
    dns: ["maintenance-service.talos.dev"],
    server: true,
    notBefore: Date.now() - day,
    validity: 3650 * day,
  }).then(({ crt, key }) => createSecureContext({ cert: crt, key, minVersion: "TLSv1.3" }));
  return shared;
}

/**
 * Keeps apid's certificate in force until the boot ends: a control plane signs it itself, a worker asks trustd at the cluster endpoint until
 * it answers. Made anew for each network, since the machine's addresses are in it, for other names and authorities, and at half its life.
 */
export function configureApid(boot: Boot): void {
  const { clock, log } = boot.chassis;
  let timer: Timer | undefined;
  let last = 0;
  const renew = () => {
    timer?.cancel();
    const own = ++last;
    certify(boot)
      .then((tls) => {
        if (own !== last) return;
        boot.apidTls = tls;
        timer = clock.after(day / 2, renew);
      })
      .catch((error) => {
        if (boot.signal.aborted) return;
        log.debug({ machine: boot.uuid, error }, "no certificate for apid");
        boot.kernel.write(`[talos] apid: cannot make a certificate: ${messageOf(error)}`, "user", "err");
      });
  };
  boot.onNetwork.add(renew);
  let used = madeOf(boot);
  boot.onConfig.add(() => {
    const now = madeOf(boot);
    if (now !== used && boot.network) renew();
    used = now;
  });
  boot.signal.addEventListener("abort", () => timer?.cancel(), { once: true });
  if (boot.network) renew();
}

/** All of the configuration that goes into the certificate and into who is let in. */
function madeOf({ config, hostname }: Boot): string {
  return JSON.stringify([hostname, config?.os, config?.acceptedOS, config?.certSANs, config?.endpoint, config?.token]);
}

async function certify(boot: Boot): Promise<ApidTls> {
  const { config } = boot;
  if (!config) throw new Error("no configuration");
  const names = {
    commonName: boot.hostname,
    dns: [boot.hostname, ...config.certSANs.filter((san) => !isIP(san))],
    ips: [...new Set([...boot.addresses(), ...config.certSANs.filter(isIP)])],
  };
  const pair = config.controlPlane
    ? await issue(
        { crt: config.os.crt, key: config.os.key },
        { ...names, server: true, notBefore: boot.now() - 60_000, validity: day },
      )
    : await askTrustd(boot, names);
  const authorities = [config.os.crt, ...config.acceptedOS];
  const context = createSecureContext({ cert: pair.crt, key: pair.key, ca: authorities, minVersion: "TLSv1.3" });
  return { context, clientCAs: authorities };
}

async function askTrustd(
  boot: Boot,
  names: { commonName: string; dns: string[]; ips: string[] },
): Promise<{ crt: string; key: string }> {
  const { clock, delays } = boot.chassis;
  const { csr, key } = await newRequest(names);
  for (let attempt = 0; ; attempt++) {
    boot.signal.throwIfAborted();
    try {
      return { crt: await requestCertificate(boot, csr), key };
    } catch (error) {
      boot.kernel.write(
        `[talos] controller failed {"component": "controller-runtime", "controller": "secrets.APIController", "error": "failed to sign API server CSR: ${messageOf(error).replaceAll('"', "'")}"}`,
        "user",
        "warning",
      );
      boot.setUnmet("apid", "waiting for a certificate from trustd");
      await sleep(backoffDelay(attempt, { initial: delays.retry, max: delays.retryMax }), clock, boot.signal);
    }
  }
}

async function requestCertificate(boot: Boot, csr: string): Promise<string> {
  const { config, network } = boot;
  if (!config || !network) throw new Error("no network yet");
  const host = new URL(config.endpoint).hostname.replace(/^\[|\]$/g, "");
  const signal = AbortSignal.any([boot.signal, AbortSignal.timeout(10_000)]);
  const raw = await network.connect(host, ports.trustd, signal);
  const socket = tlsConnect({
    socket: raw,
    host,
    ca: [config.os.crt, ...config.acceptedOS],
    minVersion: "TLSv1.3",
    ALPNProtocols: ["h2"],
    ...(isIP(host) ? {} : { servername: host }),
  });
  const stop = () => socket.destroy(new Error("timed out"));
  signal.addEventListener("abort", stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("secureConnect", resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("connection closed")));
    });
    socket.on("error", () => {});
    const authority = host.includes(":") ? `[${host}]` : host;
    const client = createClient(
      SecurityService,
      grpcTo({ authority: `${authority}:${ports.trustd}`, tls: true, socket }),
    );
    const answer = await client.certificate({ csr: Buffer.from(csr) }, { headers: { token: config.token }, signal });
    boot.setUnmet("apid", undefined);
    return Buffer.from(answer.crt).toString("utf8");
  } finally {
    signal.removeEventListener("abort", stop);
    socket.destroy();
    raw.destroy();
  }
}

/** Whether a text is an IP address. */
export function isIP(text: string): boolean {
  return /^[0-9.]+$/.test(text) || text.includes(":");
}
