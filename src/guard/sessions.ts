import { createHash, randomBytes } from "node:crypto";
import { type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { SessionSpec } from "#gen/ichor/v1/ichor_pb.ts";
import { SessionKind } from "#kinds/access/session.ts";
import type { Clock, Timer } from "#lib/clock.ts";
import { codeOf, IchorError, messageOf } from "#lib/errors.ts";
import type { Logger } from "#lib/log.ts";
import type { Role } from "#resource/kind.ts";
import type { Resource } from "#resource/resource.ts";
import type { State } from "#store/state.ts";
import { type Caller, readRole } from "./caller.ts";
import { readCredential } from "./credential.ts";

const minute = 60_000;
const day = 1440 * minute;

/** Life of the code in a sign-in link. */
export const codeLifetime = 60 * minute;
/** Life of the session that a browser gets for it. */
export const sessionLifetime = 7 * day;
/** `last_seen` is written when it is older than this. */
const seenEvery = 5 * minute;
/** Sessions and codes that are kept; the oldest go first. */
const mostSessions = 10_000;

/** A token that was just made; its text is nowhere else. */
export interface NewToken {
  readonly token: string;
  readonly identity: string;
  readonly role: Role;
  /** Milliseconds since the Unix epoch. */
  readonly expires: number;
}

/** Holds something open for a caller for as long as the session lasts. */
export interface Hold {
  /** Aborts with `unauthenticated` when the session ends, by time or by sign-out. */
  readonly signal: AbortSignal;
  release(): void;
}

/**
 * Sessions, tokens of the CLI, and one-time codes: random texts of 256 bits of which only the SHA-256 is kept. What is looked up is the
 * hash, so how long a look-up takes says nothing about a token.
 */
export class Sessions {
  readonly #state: State;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #held = new Map<string, Set<AbortController>>();
  readonly #seeing = new Set<string>();

  constructor(options: { readonly state: State; readonly clock: Clock; readonly log: Logger }) {
    this.#state = options.state.as("guard");
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** A code that {@link signIn} takes once. */
  async createSignInCode(identity: string, role: Role, ttl = codeLifetime): Promise<NewToken> {
    return this.#create(identity, role, ttl, true);
  }

  /** A token that stands for an identity until `ttl` milliseconds are over. */
  async createToken(identity: string, role: Role, ttl: number): Promise<NewToken> {
    return this.#create(identity, role, ttl, false);
  }

  /** The token if it still has more than half of `ttl` to live, else a new one. */
  async ensureToken(token: string | undefined, identity: string, role: Role, ttl: number): Promise<string> {
    const known = token ? await this.#find(token) : undefined;
    const good =
      known && !known.spec.oneTime && known.spec.identity === identity && known.spec.role === role
        ? time(known.spec.expires) - this.#clock.now() > ttl / 2
        : false;
    return good && token ? token : (await this.createToken(identity, role, ttl)).token;
  }

  /** Exchanges a code for a session, once: of several at the same time one succeeds. Throws `unauthenticated`. */
  async signIn(code: string): Promise<NewToken> {
    const refusal = "the sign-in link was used already or is too old: ask for a new one with `ichor signin`";
    const found = await this.#find(code);
    if (!found?.spec.oneTime) throw new IchorError("unauthenticated", refusal);
    try {
      await this.#state.destroy(SessionKind.key(found.metadata.id));
    } catch (error) {
      if (codeOf(error) === "not_found") throw new IchorError("unauthenticated", refusal);
      throw error;
    }
    return this.createToken(found.spec.identity, readRole(found.spec.role), sessionLifetime);
  }

  /** Ends a session and all that is held open by it. One that ended already is fine. */
  async signOut(session: string): Promise<void> {
    await this.#remove(session);
    this.#end(session, "signed out");
  }

  /**
   * Who calls, by the headers of a request (lower-case names). Undefined without a credential. Throws `unauthenticated` for one that is
   * not valid, `permission_denied` for a cookie on a request that another site made.
   */
  async authenticate(header: (name: string) => string | undefined): Promise<Caller | undefined> {
    const credential = readCredential(header);
    if (credential === undefined) return undefined;
    const found = await this.#find(credential.token);
    if (!found || found.spec.oneTime)
      throw new IchorError("unauthenticated", "the session is not valid, or has ended: sign in again");
    const { id } = found.metadata;
    if (this.#clock.now() - time(found.spec.lastSeen) > seenEvery) this.#see(id);
    return {
      identity: found.spec.identity,
      role: readRole(found.spec.role),
      session: id,
      expires: time(found.spec.expires),
    };
  }

  /** Lets a long answer end with the session that it is for. */
  hold(caller: Caller): Hold {
    const stop = new AbortController();
    const held = this.#held.get(caller.session) ?? new Set();
    this.#held.set(caller.session, held.add(stop));
    let timer: Timer | undefined;
    const release = () => {
      timer?.cancel();
      held.delete(stop);
      if (held.size === 0 && this.#held.get(caller.session) === held) this.#held.delete(caller.session);
    };
    const arm = () => {
      const left = caller.expires - this.#clock.now();
      // Timers cannot wait for weeks.
      timer = this.#clock.after(Math.min(Math.max(left, 0), day), () => {
        if (caller.expires > this.#clock.now()) return arm();
        release();
        stop.abort(new IchorError("unauthenticated", "the session has ended: sign in again"));
      });
    };
    arm();
    return { signal: stop.signal, release };
  }

  async #create(identity: string, role: Role, ttl: number, oneTime: boolean): Promise<NewToken> {
    await this.#sweep();
    const token = randomBytes(32).toString("base64url");
    const now = this.#clock.now();
    const expires = now + ttl;
    await this.#state.create(SessionKind, hash(token), {
      identity,
      role,
      oneTime,
      expires: timestampFromMs(expires),
      lastSeen: timestampFromMs(now),
    });
    return { token, identity, role, expires };
  }

  /** A session that has not ended. */
  async #find(token: string): Promise<Resource<SessionSpec> | undefined> {
    const found = await this.#state.get(SessionKind, hash(token));
    return found && time(found.spec.expires) > this.#clock.now() ? found : undefined;
  }

  /** Not waited for: a full disk must not keep people out. */
  #see(id: string): void {
    if (this.#seeing.has(id)) return;
    this.#seeing.add(id);
    const at = timestampFromMs(this.#clock.now());
    this.#state
      .update(SessionKind, id, (draft) => {
        draft.spec.lastSeen = at;
      })
      .catch((error: unknown) => {
        if (codeOf(error) !== "not_found")
          this.#log.warn({ error: messageOf(error) }, "last use of a session not kept");
      })
      .finally(() => this.#seeing.delete(id));
  }

  /** Removes what has ended: at each sign-in, so that no timer has to. */
  async #sweep(): Promise<void> {
    const all = await this.#state.list(SessionKind);
    const now = this.#clock.now();
    const living = all.filter(({ spec }) => time(spec.expires) > now);
    const extra = living
      .sort((a, b) => time(a.spec.lastSeen) - time(b.spec.lastSeen))
      .slice(0, Math.max(0, living.length - mostSessions + 1));
    for (const { metadata } of [...all.filter(({ spec }) => time(spec.expires) <= now), ...extra]) {
      await this.#remove(metadata.id);
      this.#end(metadata.id, "over");
    }
  }

  async #remove(id: string): Promise<void> {
    try {
      await this.#state.destroy(SessionKind.key(id));
    } catch (error) {
      if (codeOf(error) !== "not_found") throw error;
    }
  }

  #end(id: string, why: string): void {
    for (const stop of this.#held.get(id) ?? [])
      stop.abort(new IchorError("unauthenticated", `the session is ${why}: sign in again`));
  }
}

function hash(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

function time(at: Timestamp | undefined): number {
  return at ? timestampMs(at) : 0;
}
