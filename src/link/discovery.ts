import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import {
  type AffiliateUpdateRequest,
  Cluster,
  type WatchResponse,
  WatchResponseSchema,
} from "#gen/sidero/discovery/server/server_pb.ts";
import type { Clock, Timer } from "#lib/clock.ts";
import { parseIP } from "#lib/ip.ts";
import { callerAddress } from "./serve-h2c.ts";

/** Port inside the link (protocols.md 0.1). */
export const discoveryPort = 8093;

/** Limits of the public service (protocols.md 8). */
const longestId = 256;
const longestData = 2048;
const longestEndpoint = 32;
const mostAffiliates = 1024;
const mostEndpoints = 64;
const longestTTL = 30 * 60_000;
const mostClusters = 4096;
const longestBacklog = 32;

interface Affiliate {
  data: Uint8Array;
  expires: number;
  /** Endpoint in hex, and when it expires. */
  readonly endpoints: Map<string, number>;
}

interface Watcher {
  readonly waiting: WatchResponse[];
  slow: boolean;
  wake: () => void;
}

interface Members {
  readonly affiliates: Map<string, Affiliate>;
  readonly watchers: Set<Watcher>;
}

/** The discovery service inside the link: sees cluster ids and cipher texts only (protocols.md 8). */
export class Discovery {
  readonly #clock: Clock;
  readonly #clusters = new Map<string, Members>();
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  routes(router: ConnectRouter): void {
    router.service(Cluster, {
      hello: ({ clusterId }, { values }) => {
        checkId("cluster_id", clusterId);
        return { clientIp: parseIP(values.get(callerAddress)) };
      },
      affiliateUpdate: (request) => {
        this.#update(request);
        return {};
      },
      affiliateDelete: ({ clusterId, affiliateId }) => {
        checkId("cluster_id", clusterId);
        checkId("affiliate_id", affiliateId);
        const members = this.#clusters.get(clusterId);
        if (members?.affiliates.delete(affiliateId)) this.#tell(members, [affiliateId], true);
        this.#dropEmpty(clusterId);
        return {};
      },
      list: ({ clusterId }) => {
        checkId("cluster_id", clusterId);
        return { affiliates: this.#all(this.#clusters.get(clusterId)) };
      },
      watch: ({ clusterId }, { signal }) => this.#watch(clusterId, signal),
    });
  }

  close(): void {
    this.#timer?.cancel();
  }

  #update(request: AffiliateUpdateRequest): void {
    const { clusterId, affiliateId, affiliateData, affiliateEndpoints } = request;
    checkId("cluster_id", clusterId);
    checkId("affiliate_id", affiliateId);
    const ttl = Number(request.ttl?.seconds ?? 0n) * 1000 + (request.ttl?.nanos ?? 0) / 1e6;
    if (!(ttl > 0 && ttl <= longestTTL)) throw invalid("ttl must be more than nothing and at most 30 minutes");
    if ((affiliateData?.length ?? 0) > longestData) throw invalid(`affiliate_data is longer than ${longestData} bytes`);
    if (affiliateEndpoints.some(({ length }) => length > longestEndpoint))
      throw invalid(`an endpoint is longer than ${longestEndpoint} bytes`);
    const members = this.#members(clusterId);
    if (!members.affiliates.has(affiliateId) && members.affiliates.size >= mostAffiliates)
      throw exhausted(`more than ${mostAffiliates} affiliates`);
    const expires = this.#clock.now() + ttl;
    const affiliate = members.affiliates.get(affiliateId) ?? { data: new Uint8Array(), expires, endpoints: new Map() };
    const names = affiliateEndpoints.map((endpoint) => Buffer.from(endpoint).toString("hex"));
    const fresh = names.filter((name) => !affiliate.endpoints.has(name)).length;
    if (affiliate.endpoints.size + fresh > mostEndpoints) throw exhausted(`more than ${mostEndpoints} endpoints`);
    this.#clusters.set(clusterId, members);
    members.affiliates.set(affiliateId, affiliate);
    affiliate.expires = expires;
    if (affiliateData) affiliate.data = Uint8Array.from(affiliateData);
    for (const name of names) affiliate.endpoints.set(name, expires);
    this.#tell(members, [affiliateId], false);
    // What expires is collected once a minute while there is anything: one timer for all.
    this.#timer ??= this.#clock.after(60_000, () => this.#collect());
  }

  /** Those of a cluster; new ones are not yet kept. */
  #members(clusterId: string): Members {
    const members = this.#clusters.get(clusterId);
    if (!members && this.#clusters.size >= mostClusters) throw exhausted("too many clusters");
    return members ?? { affiliates: new Map(), watchers: new Set() };
  }

  async *#watch(clusterId: string, signal: AbortSignal): AsyncGenerator<WatchResponse> {
    checkId("cluster_id", clusterId);
    const members = this.#members(clusterId);
    this.#clusters.set(clusterId, members);
    const watcher: Watcher = { waiting: [], slow: false, wake: () => {} };
    members.watchers.add(watcher);
    const stop = () => watcher.wake();
    signal.addEventListener("abort", stop, { once: true });
    try {
      yield create(WatchResponseSchema, { affiliates: this.#all(members) });
      while (!signal.aborted) {
        if (watcher.slow) throw new ConnectError("the watcher is too slow", Code.Aborted);
        const next = watcher.waiting.shift();
        if (next) yield next;
        else
          await new Promise<void>((resolve) => {
            watcher.wake = resolve;
            if (signal.aborted || watcher.slow || watcher.waiting.length > 0) resolve();
          });
      }
    } finally {
      signal.removeEventListener("abort", stop);
      members.watchers.delete(watcher);
      this.#dropEmpty(clusterId);
    }
  }

  #tell(members: Members, ids: readonly string[], deleted: boolean): void {
    const affiliates = ids.map((id) => toWire(id, members.affiliates.get(id)));
    for (const watcher of members.watchers) {
      if (watcher.waiting.length >= longestBacklog) watcher.slow = true;
      else watcher.waiting.push(create(WatchResponseSchema, { affiliates, deleted }));
      watcher.wake();
    }
  }

  #all(members: Members | undefined) {
    return [...(members?.affiliates ?? [])].map(([id, affiliate]) => toWire(id, affiliate));
  }

  #collect(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const [clusterId, members] of this.#clusters) {
      const gone: string[] = [];
      const changed: string[] = [];
      for (const [id, affiliate] of members.affiliates) {
        if (affiliate.expires <= now) {
          members.affiliates.delete(id);
          gone.push(id);
          continue;
        }
        const before = affiliate.endpoints.size;
        for (const [name, expires] of affiliate.endpoints) if (expires <= now) affiliate.endpoints.delete(name);
        if (affiliate.endpoints.size < before) changed.push(id);
      }
      if (gone.length > 0) this.#tell(members, gone, true);
      if (changed.length > 0) this.#tell(members, changed, false);
      this.#dropEmpty(clusterId);
    }
    if (this.#clusters.size > 0) this.#timer = this.#clock.after(60_000, () => this.#collect());
  }

  #dropEmpty(clusterId: string): void {
    const members = this.#clusters.get(clusterId);
    if (members && members.affiliates.size + members.watchers.size === 0) this.#clusters.delete(clusterId);
  }
}

function toWire(id: string, affiliate: Affiliate | undefined) {
  const endpoints = [...(affiliate?.endpoints.keys() ?? [])].map((name) => Buffer.from(name, "hex"));
  return { id, data: affiliate?.data ?? new Uint8Array(), endpoints };
}

function checkId(field: string, id: string): void {
  if (id === "" || Buffer.byteLength(id) > longestId) throw invalid(`${field} must have 1 to ${longestId} bytes`);
}

function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

function exhausted(message: string): ConnectError {
  return new ConnectError(message, Code.ResourceExhausted);
}
