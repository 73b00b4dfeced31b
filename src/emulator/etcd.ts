import { createHash, randomBytes } from "node:crypto";
import { IchorError } from "#lib/errors.ts";

/** A member of an emulated etcd cluster. */
export interface EtcdMember {
  /** 64-bit id as decimal text. */
  readonly id: string;
  readonly name: string;
  /** UUID of its machine. */
  readonly machine: string;
  readonly peerURL: string;
  readonly clientURL: string;
  learner: boolean;
  /** Its machine's disk was wiped before it left: it never runs again. */
  lost?: boolean;
}

/** Membership, leadership and quorum of one cluster's etcd. Holds no data: the Kubernetes content lives beside it. */
export class Etcd {
  readonly #members = new Map<string, EtcdMember>();
  readonly #running = new Set<string>();
  readonly #changed: () => void;
  #leader: string | undefined;
  term = 1;
  index = 8;

  constructor(changed: () => void) {
    this.#changed = changed;
  }
  get members(): EtcdMember[] {
    return [...this.#members.values()].sort((a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
  }
  /** Id of the leader while there is a quorum. */
  get leader(): string | undefined {
    return this.quorum ? this.#leader : undefined;
  }
  /** Some machine still holds the data. */
  get bootstrapped(): boolean {
    return this.members.some((member) => !member.lost);
  }
  get quorum(): boolean {
    const voters = this.members.filter((member) => !member.learner);
    return (
      voters.length > 0 &&
      voters.filter((member) => this.#running.has(member.id)).length >= Math.floor(voters.length / 2) + 1
    );
  }
  isRunning(id: string): boolean {
    return this.#running.has(id);
  }
  get(id: string): EtcdMember | undefined {
    return this.#members.get(id);
  }
  /** The first member of a new cluster. Throws `already_exists`. */
  bootstrap(member: Omit<EtcdMember, "id" | "learner">): EtcdMember {
    if (this.bootstrapped) throw new IchorError("already_exists", "etcd data directory is not empty");
    this.#members.clear();
    return this.#add(member);
  }
  /** A further member. Throws `unavailable` without quorum. */
  join(member: Omit<EtcdMember, "id" | "learner">): EtcdMember {
    this.#needQuorum();
    return this.#add(member);
  }
  /** The member's process runs, or no longer does. */
  setRunning(id: string, running: boolean): void {
    if (running === this.#running.has(id)) return;
    if (running) this.#running.add(id);
    else this.#running.delete(id);
    this.#elect();
    this.#changed();
  }
  /** The member's data is gone. When no member has any, nothing is left of the cluster. */
  lose(id: string): void {
    const member = this.#members.get(id);
    if (!member) return;
    member.lost = true;
    this.setRunning(id, false);
    this.#changed();
  }
  /** Throws `not_found`, or `unavailable` without quorum, or `failed_precondition` when what remains would have none. */
  remove(id: string): void {
    if (!this.#members.has(id)) throw new IchorError("not_found", "etcdserver: member not found");
    const others = this.members.filter((member) => member.id !== id && !member.learner);
    const alive = others.filter((member) => this.#running.has(member.id)).length;
    if (others.length > 0) {
      this.#needQuorum();
      if (alive < Math.floor(others.length / 2) + 1)
        throw new IchorError(
          "failed_precondition",
          "etcdserver: re-configuration failed due to not enough started members",
        );
    }
    this.#members.delete(id);
    this.#running.delete(id);
    this.index++;
    this.#elect();
    this.#changed();
  }
  /** Hands leadership to another running member; undefined when there is none or `id` does not lead. */
  forfeit(id: string): EtcdMember | undefined {
    if (this.leader !== id) return undefined;
    const next = this.members.find((member) => member.id !== id && !member.learner && this.#running.has(member.id));
    if (!next) return undefined;
    this.#leader = next.id;
    this.term++;
    this.#changed();
    return next;
  }
  /** A write went through: counts the raft log up. */
  wrote(): void {
    this.index++;
  }
  /** Members as plain data, and back. */
  save(): EtcdMember[] {
    return this.members;
  }
  load(members: readonly EtcdMember[]): void {
    for (const member of members) this.#members.set(member.id, { ...member });
  }

  #add(member: Omit<EtcdMember, "id" | "learner">): EtcdMember {
    const digest = createHash("sha256")
      .update(`${member.peerURL}/${randomBytes(8).toString("hex")}`)
      .digest();
    const added = { ...member, id: digest.readBigUInt64BE(0).toString(), learner: false };
    this.#members.set(added.id, added);
    this.index++;
    this.#changed();
    return added;
  }
  #elect(): void {
    if (this.#leader && this.#members.has(this.#leader) && this.#running.has(this.#leader)) return;
    const next = this.members.find((member) => !member.learner && this.#running.has(member.id));
    if (next?.id !== this.#leader) this.term++;
    this.#leader = next?.id;
  }
  #needQuorum(): void {
    if (!this.quorum) throw new IchorError("unavailable", "etcdserver: no leader");
  }
}
