/**
 * A member of a group of processes that split work by shard. It stores a heartbeat every second, receives the heartbeats of the
 * other members, and computes which shards it owns.
 *
 * - Every member assigns shards by itself, from the heartbeats that it received. A shard may have two owners or none for a
 *   moment; every user of a group tolerates that, so that the group needs neither a lock nor a leader.
 * - A member owns nothing until it has read the bucket once: a new process does not own every shard only because it does not
 *   know the other members yet.
 * - A member is connected while its heartbeats are stored. It judges the silence of others only right after a stored heartbeat.
 *   When NATS is down or hangs, every member thus keeps the shards that it owns.
 * - After a disconnection a member starts again: it creates the bucket if that is lost, stores a heartbeat and reads the other
 *   members. The members that it knew have their whole expiry time again, because they may reconnect later than this one.
 */

import { UNIT_HASH_LENGTH, unitHash } from '../../domain/shard.ts';
import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import type { Nats } from '../nats/connection.ts';
import { MemberBucket } from '../nats/members.ts';
import { errorMessage } from '../observability/error-message.ts';
import type { Log } from '../observability/log.ts';
import { assignShards, type Member } from './assign-shards.ts';
import { decodeHeartbeat, encodeHeartbeat } from './heartbeat.ts';
import { HEARTBEAT_MS, Membership } from './membership.ts';

/** A token of a NATS subject. */
const TOKEN = /^[A-Za-z0-9_-]{1,64}$/;

export interface ShardOptions {
  readonly nats: Nats;
  /** The name of the group, such as `ingest`: letters, digits, `_`, `-`. */
  readonly group: string;
  /** Letters of a shard's name, equal in all members of the group: 1 for 16 shards, 2 for 256. */
  readonly shardLetters: number;
  /** The wanted number of copies of the bucket `members` (`NATS_REPLICAS`). @default 1 */
  readonly replicas?: number;
  /** The prefixes that this process is fixed to (`SHARDS`). Undefined: shards are assigned to it. */
  readonly fixed: readonly string[] | undefined;
  /** New at every start: letters, digits, `_`, `-`. */
  readonly memberId: string;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /** Resolves after `ms` or when the signal aborts; must not throw. */
  readonly pause: (ms: number, until: AbortSignal) => Promise<unknown>;
  readonly log: Log;
  /** The member leaves the group when it aborts. */
  readonly signal: AbortSignal;
}

/** Called with the owned shards whenever they have changed; must not throw. */
export type ShardWatcher = (owned: readonly string[]) => void;

/**
 * Joins a group. The member owns no shards until it has read the other members from NATS.
 * @throws TypeError when the group or the id is not a token of a NATS subject
 */
export function joinShards(options: ShardOptions): Shards {
  return new Shards(options);
}

export class Shards {
  readonly #options: ShardOptions;
  readonly #self: Member;
  readonly #shards: readonly string[];
  readonly #bucket: MemberBucket;
  readonly #others = new Membership();
  /** Members that left while the bucket was being read: the result of the read may still list them. */
  readonly #leftDuringRead = new Set<string>();
  readonly #watchers = new Set<ShardWatcher>();
  readonly #cleanups: readonly (() => void)[];
  readonly #running: Promise<void>;
  #owned: ReadonlySet<string> = new Set();
  #hasRead = false;
  #isConnected = false;
  #wakeUp = new AbortController();
  #isLeaving = false;
  #left: Promise<void> | undefined;
  readonly #logged = { disconnected: false, unowned: false, unreadable: false };

  constructor(options: ShardOptions) {
    const { nats, group, replicas, memberId, fixed, shardLetters, signal } = options;
    for (const token of [group, memberId]) {
      if (!TOKEN.test(token)) throw new TypeError(`"${token}" is not 1 to 64 letters, digits, "_" and "-"`);
    }
    this.#options = options;
    this.#self = { id: memberId, fixed };
    this.#shards = shardsOfLength(shardLetters);
    this.#bucket = new MemberBucket(nats, group, replicas);
    const stop = () => void this.leave();
    signal.addEventListener('abort', stop, { once: true });
    this.#cleanups = [
      () => signal.removeEventListener('abort', stop),
      this.#bucket.watch({
        put: (id, value) => this.#receiveHeartbeat(id, value) && this.#reassign(),
        deleted: (id) => this.#removeMember(id),
      }),
      nats.onConnection(() => this.#wakeUp.abort()),
    ];
    this.#running = this.#run();
    if (signal.aborted) stop();
  }

  /** The shards that this member owns, in order. */
  owned(): readonly string[] {
    return [...this.#owned];
  }

  /** Whether this member owns the shard of a unit, given by its name or, cheaper, by the hash of its name. */
  owns(unitOrHash: string): boolean {
    const hash = unitOrHash.length === UNIT_HASH_LENGTH ? unitOrHash : unitHash(unitOrHash);
    return this.#owned.has(hash.slice(0, this.#options.shardLetters));
  }

  /** Whether this member owns a shard. */
  ownsShard(shard: string): boolean {
    return this.#owned.has(shard);
  }

  /** The members that this one knows, itself first. */
  members(): readonly Member[] {
    return [this.#self, ...this.#others.members];
  }

  /** Calls the watcher after each change of the owned shards. @returns a function that removes the watcher */
  onChange(watcher: ShardWatcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Gives up all shards and deletes the heartbeat, so that others take over at once. When that fails, the heartbeat expires. */
  leave(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  async #leave(): Promise<void> {
    const { memberId, log, group } = this.#options;
    this.#isLeaving = true;
    for (const cleanUp of this.#cleanups) cleanUp();
    this.#wakeUp.abort();
    this.#setOwned([]);
    // A heartbeat in flight must not be stored after the deletion.
    await this.#running;
    try {
      await this.#bucket.delete(memberId);
    } catch (error) {
      log.debug('A member left its group without deleting its heartbeat, which expires.', {
        group,
        reason: errorMessage(error),
      });
    }
  }

  async #run(): Promise<void> {
    const { monotonic, pause, log, group } = this.#options;
    while (!this.#isLeaving) {
      this.#wakeUp = new AbortController();
      const { signal } = this.#wakeUp;
      try {
        await this.#sendHeartbeat();
        this.#isConnected = !signal.aborted;
        this.#logged.disconnected = false;
      } catch (error) {
        this.#isConnected = false;
        if (!this.#logged.disconnected)
          log.warn('A member cannot store its heartbeat in NATS and keeps the shards that it owns.', {
            group,
            reason: errorMessage(error),
          });
        this.#logged.disconnected = true;
      }
      // When a member expires, a stored heartbeat proves that this process was connected all the time.
      const untilExpiryMs = this.#isConnected ? Math.ceil(this.#others.nextExpiryMs - monotonic()) : HEARTBEAT_MS;
      await pause(Math.max(0, Math.min(HEARTBEAT_MS, untilExpiryMs)), signal);
      this.#isConnected &&= !signal.aborted;
    }
  }

  async #sendHeartbeat(): Promise<void> {
    const { monotonic, log, group } = this.#options;
    if (this.#isConnected) await this.#bucket.put(this.#self.id, encodeHeartbeat(this.#self.fixed));
    else await this.#reconnect();
    const silent = this.#others.removeExpired(monotonic());
    if (silent.length > 0)
      log.info('Members sent no heartbeat in time. The other members take over their shards.', {
        group,
        members: silent,
      });
    if (silent.length > 0 || !this.#isConnected) this.#reassign();
  }

  async #reconnect(): Promise<void> {
    await this.#bucket.ensure();
    await this.#bucket.put(this.#self.id, encodeHeartbeat(this.#self.fixed));
    this.#leftDuringRead.clear();
    const entries = await this.#bucket.read();
    this.#others.restartExpiry(this.#options.monotonic());
    for (const { id, value, ageMs } of entries) {
      if (!this.#leftDuringRead.has(id)) this.#receiveHeartbeat(id, value, ageMs);
    }
    this.#hasRead = true;
  }

  /** @returns whether the members changed */
  #receiveHeartbeat(id: string, value: string, ageMs = 0): boolean {
    const { monotonic, memberId, log, group } = this.#options;
    if (id === memberId) return false;
    const heartbeat = decodeHeartbeat(value);
    if (heartbeat !== undefined)
      return this.#others.recordHeartbeat({ id, fixed: heartbeat.fixed }, monotonic() - ageMs);
    if (!this.#logged.unreadable)
      log.warn('A heartbeat in the bucket members is malformed and is ignored.', { group, member: id });
    this.#logged.unreadable = true;
    return false;
  }

  #removeMember(id: string): void {
    if (!this.#isConnected) this.#leftDuringRead.add(id);
    if (this.#others.remove(id)) this.#reassign();
  }

  #reassign(): void {
    if (!this.#hasRead || this.#isLeaving) return;
    const owners = assignShards(this.#shards, this.members());
    this.#setOwned(this.#shards.filter((shard) => owners.get(shard) === this.#self.id));
    const unowned = this.#shards.filter((shard) => !owners.has(shard));
    if (unowned.length > 0 && !this.#logged.unowned) {
      const { log, group } = this.#options;
      log.warn(
        'Some shards have no owner, because SHARDS is set in every member and names them in none. Name them, or start a member without SHARDS.',
        {
          group,
          shards: unowned.join(),
        },
      );
    }
    this.#logged.unowned = unowned.length > 0;
  }

  #setOwned(owned: readonly string[]): void {
    if (owned.join() === this.owned().join()) return;
    this.#owned = new Set(owned);
    const { log, group } = this.#options;
    log.info('The shards of this process changed.', {
      group,
      owned: owned.length,
      of: this.#shards.length,
      members: this.members().length,
    });
    for (const watcher of this.#watchers) watcher(owned);
  }
}
